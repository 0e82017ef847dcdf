"""The gain of sharpness-aware minimization for two layers."""

import jax.numpy as jnp

from ddln._types import Array, Float, Loss
from ddln.flows import SamRecord, Trajectory
from ddln.theory._errors import integration_error, rounding, weight_error
from ddln.theory._law import Sides, law
from ddln.theory._rows import fill_unreached
from ddln.theory.layers import deep_diagonal


@law(
    source='"Other optimizers" in the documentation',
    relation="==",
    axes=("time", "coordinate"),
)
def sam_gain(trajectory: Trajectory, loss: Loss) -> Sides:
    """Sharpness-aware flow of two layers shrinks u^2 - v^2 by its gain:
    u(t)^2 - v(t)^2 = (u(0)^2 - v(0)^2) exp(-gain(t)),
    gain' = 2 rho c^2 g g~ / |grad_w L| in the norm l2.

    g is the gradient in theta at w, g~ at the ascended point; a gap may grow where they differ in sign.

    Args:
        trajectory: a `ddln.sam_flow` of a `DeepDiagonal` with two layers.
        loss: any loss; the flow has recorded the gain.

    Returns:
        a check with axes (time, coordinate), shape [T, d].

    Raises:
        ValueError: if the trajectory is not such a flow.
    """
    gain = sam_record(trajectory).gain
    assert gain is not None  # as `sam_record` checks
    rows = fill_unreached(trajectory)
    network, layers = deep_diagonal(trajectory.initial), deep_diagonal(rows.parameterization).layers
    errors = weight_error(trajectory, rows).layers
    expected = _gap(network.layers)[None] * jnp.exp(-gain)
    error = jnp.sum(2 * jnp.abs(layers) * errors + rounding(jnp.square(layers)), axis=1)
    return Sides(
        lhs=_gap(layers),
        rhs=expected,
        tolerance=error + jnp.abs(expected) * integration_error(trajectory, gain),
        compared=rows.reached[:, None],
    )


def sam_record(trajectory: Trajectory) -> SamRecord:
    """The record of a sharpness-aware flow, with its gain.

    Raises:
        ValueError: if the trajectory is of another flow, or of other than two layers.
    """
    record = trajectory.record
    if not isinstance(record, SamRecord) or record.gain is None:
        raise ValueError(
            "Argument `trajectory` must be a `ddln.sam_flow` of a `ddln.DeepDiagonal` with two layers, but "
            "it has no gain: other dynamics and depths have none."
        )
    return record


def _gap(layers: Float[Array, "*T 2 d"]) -> Float[Array, "*T d"]:
    """u^2 - v^2, factored so that a small one keeps its digits."""
    u, v = layers[..., 0, :], layers[..., 1, :]
    return (u - v) * (u + v)
