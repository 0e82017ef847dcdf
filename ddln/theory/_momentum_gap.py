"""What momentum does to the differences of squared layers, for every depth."""

import jax.numpy as jnp

from ddln._types import Array, Float, Loss
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._conservation import squared_layer_change
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._errors import rounding
from ddln.theory._momentum import momentum_record, motion_errors
from ddln.theory._path import path


def momentum_gap(trajectory: Trajectory, loss: Loss) -> Check:
    """Differences of squared layers are no longer conserved, but driven by differences of velocities:

        gap_jk(t) = gap_jk(0) - k(t) gap_jk'(t) + 2 int_0^t k(s) ((u^j)'^2 - (u^k)'^2) ds,

    gap_jk = (u^j)^2 - (u^k)^2, with k = lambda for constant damping and k(t) = t / (alpha - 1) for
    vanishing damping. The sides can have any sign: momentum may shrink a gap or let it grow. Each
    layer j is compared with k, the smallest one at its coordinate at the start.

    Args:
        trajectory: a `ddln.momentum_flow` of a `DeepDiagonal`.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, layer, coordinate), shape [T, L, d].

    Raises:
        ValueError: if the trajectory is not such a flow.

    Source: Papazov et al. 2024, for two layers; for every depth from
    lambda gap'' + d gap' = 2 lambda ((u^j)'^2 - (u^k)'^2), see "Noise and momentum" in the
    documentation.
    """
    network = deep_diagonal(trajectory.initial)
    record = momentum_record(trajectory)
    assert record.kinetic is not None  # that of a deep diagonal network
    rows = path(trajectory)
    layers = deep_diagonal(rows.parameterization).layers
    velocity = deep_diagonal(record.velocity).layers
    k = record.memory[:, None, None]
    smallest = jnp.argmin(jnp.abs(network.layers), axis=0)[None, None, :]

    def relative(values: Float[Array, "T L d"]) -> Float[Array, "T L d"]:
        return values - jnp.take_along_axis(values, smallest, axis=1)

    change = squared_layer_change(trajectory)
    turning = 2 * k * layers * velocity
    layer_error, velocity_error = motion_errors(trajectory, rows)
    steps = trajectory.stats["num_accepted_steps"].astype(trajectory.rtol.dtype)
    # int k u'^2 by the inequality of Cauchy and Schwarz, int k ds being at most k t.
    fastest = jnp.max(velocity_error, axis=0, keepdims=True)
    integral_error = 2 * fastest * jnp.sqrt(k * rows.ts[:, None, None] * record.kinetic)
    integral_error += steps * trajectory.rtol * record.kinetic
    errors = (
        2 * jnp.abs(layers) * layer_error
        + 2 * k * (jnp.abs(velocity) * layer_error + jnp.abs(layers) * velocity_error)
        + 2 * integral_error
        + rounding(jnp.square(layers) + jnp.square(network.layers)[None] + jnp.abs(turning))
    )
    return Check(
        name="momentum_gap",
        source="Papazov et al. 2024, for two layers; here for every depth",
        statement=(
            "gap(t) - gap(0) + k(t) gap'(t) = 2 int_0^t k(s) ((u^j)'^2 - (u^k)'^2) ds, "
            "gap = (u^j)^2 - (u^k)^2"
        ),
        relation="==",
        axes=("time", "layer", "coordinate"),
        lhs=relative(change + turning),
        rhs=relative(2 * record.kinetic),
        tolerance=errors + jnp.take_along_axis(errors, smallest, axis=1),
        compared=rows.reached[:, None, None],
    )
