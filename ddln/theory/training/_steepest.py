"""The conserved gaps of steepest descent in other norms."""

import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import SteepestRecord, Trajectory
from ddln.theory._errors import weight_error
from ddln.theory._law import Sides, law
from ddln.theory._rows import fill_unreached
from ddln.theory.layers import deep_diagonal


@law(
    source='"Other optimizers" in the documentation; Labarrière et al. 2024 for q = 2',
    relation="==",
    axes=("time", "layer", "coordinate"),
)
def steepest_gap(trajectory: Trajectory, loss: Loss) -> Sides:
    """Steepest descent with exponent q conserves the gaps of q-th powers, up to decoupled decay:
    |u^j(t)|^q - |u^k(t)|^q = exp(-q Lambda(t)) (|u^j(0)|^q - |u^k(0)|^q), k the smallest layer at the
    start.

    The law holds across changes of sign, and for the sign flow, q = 1. In reduced coordinates it holds by
    construction; integrate with `coordinates="full"` to test the flow rather than the coordinates. The
    numerical error includes what layers miss while another one changes sign and derivatives are smoothed,
    64 (1e-8)^q of the largest |u|^q.

    Args:
        trajectory: a `ddln.steepest_flow` of a `DeepDiagonal`.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, layer, coordinate), shape [T, L, d].

    Raises:
        ValueError: if the trajectory is not such a flow.
    """
    record = trajectory.record
    if not isinstance(record, SteepestRecord):
        raise ValueError(
            "Argument `trajectory` must be a `ddln.steepest_flow`, but it has no record of one."
        )
    network, rows = deep_diagonal(trajectory.initial), fill_unreached(trajectory)
    q, sizes = record.exponent, jnp.abs(deep_diagonal(rows.parameterization).layers)
    off = weight_error(trajectory, rows).layers
    errors = (sizes + off) ** q - sizes**q + 64 * (record.inner_width * jnp.max(sizes)) ** q
    shrunk = jnp.exp(-q * record.decay)[:, None, None] * jnp.abs(network.layers)[None] ** q
    change = sizes**q - shrunk
    smallest = jnp.argmin(jnp.abs(network.layers), axis=0)[None, None, :]
    return Sides(
        lhs=change,
        rhs=jnp.take_along_axis(change, smallest, axis=1),
        tolerance=errors + jnp.take_along_axis(errors, smallest, axis=1),
        compared=rows.reached[:, None, None],
    )
