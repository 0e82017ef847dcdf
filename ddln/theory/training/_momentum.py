"""Momentum at every depth: the energy, and the differences of squared layers."""

import jax
import jax.numpy as jnp

from ddln._types import Array, Float, Loss
from ddln.flows import MomentumRecord, PairRecord, Trajectory
from ddln.flows.states import rotate
from ddln.theory._decrease import decrease
from ddln.theory._errors import integration_error, loss_error, rounding
from ddln.theory._law import Sides, law
from ddln.theory._rows import Rows, fill_unreached
from ddln.theory.layers import deep_diagonal, squared_layer_change


@law(source="d/dt (L + (lambda/2) |w'|^2) = -d(t) |w'|^2", relation="<=", axes=("time",))
def momentum_energy(trajectory: Trajectory, loss: Loss) -> Sides:
    """L(theta) + (lambda/2) |w'|^2 does not increase.

    Each saved time is compared with the one before it, the first with the start. Times after which
    the energy changes by less than its numerical error, to the next time and to the end, are not
    compared.

    Args:
        trajectory: a `ddln.momentum_flow` of any parameterization.
        loss: the loss it was integrated with.

    Returns:
        a check with axes (time,), shape [T].

    Raises:
        ValueError: if the trajectory is of another flow.
    """
    record = momentum_record(trajectory)
    rows = fill_unreached(trajectory)
    velocities = jax.tree.leaves(record.velocity)
    errors = jax.tree.leaves(integration_error(trajectory, record.velocity))

    def summed(leaves):
        return sum(jnp.sum(leaf.reshape(leaf.shape[0], -1), axis=1) for leaf in leaves)

    energy = rows.loss + record.inertia / 2 * summed([jnp.square(leaf) for leaf in velocities])
    error = loss_error(trajectory, rows, loss) + record.inertia * summed(
        [jnp.abs(leaf) * off for leaf, off in zip(velocities, errors, strict=True)]
    )
    start = loss(trajectory.initial.effective())[None]
    return decrease(start, energy, rounding(start), error, rows.reached)


@law(
    source="Papazov et al. 2024, for two layers; here for every depth",
    relation="==",
    axes=("time", "layer", "coordinate"),
)
def momentum_gap(trajectory: Trajectory, loss: Loss) -> Sides:
    """gap(t) - gap(0) + k(t) gap'(t) = 2 int_0^t k(s) ((u^j)'^2 - (u^k)'^2) ds,
    gap = (u^j)^2 - (u^k)^2.

    Momentum does not conserve differences of squared layers; differences of velocities drive them.
    For constant damping k(t) = lambda, for vanishing damping k(t) = t / (alpha - 1). The sides can
    have any sign: momentum may shrink a gap or let it grow. Each layer j is compared with k, the
    smallest one at its coordinate at the start. The law follows from
    lambda gap'' + d gap' = 2 lambda ((u^j)'^2 - (u^k)'^2); see "Noise and momentum" in the
    documentation.

    Args:
        trajectory: a `ddln.momentum_flow` of a `DeepDiagonal`.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, layer, coordinate), shape [T, L, d].

    Raises:
        ValueError: if the trajectory is not such a flow.
    """
    network = deep_diagonal(trajectory.initial)
    record = momentum_record(trajectory)
    assert record.kinetic is not None  # recorded for every deep diagonal network
    rows = fill_unreached(trajectory)
    layers = deep_diagonal(rows.parameterization).layers
    velocity = deep_diagonal(record.velocity).layers
    k = record.memory[:, None, None]
    smallest = jnp.argmin(jnp.abs(network.layers), axis=0)[None, None, :]

    def relative(values: Float[Array, "T L d"]) -> Float[Array, "T L d"]:
        return values - jnp.take_along_axis(values, smallest, axis=1)

    change = squared_layer_change(network, rows)
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
    return Sides(
        lhs=relative(change + turning),
        rhs=relative(2 * record.kinetic),
        tolerance=errors + jnp.take_along_axis(errors, smallest, axis=1),
        compared=rows.reached[:, None, None],
    )


def momentum_record(trajectory: Trajectory) -> MomentumRecord:
    """The record of a momentum flow.

    Raises:
        ValueError: if the trajectory is of another flow.
    """
    if not isinstance(trajectory.record, MomentumRecord):
        raise ValueError(
            "Argument `trajectory` must be a `ddln.momentum_flow`, but it has no record of one."
        )
    return trajectory.record


def motion_errors(
    trajectory: Trajectory, rows: Rows
) -> tuple[Float[Array, "T L d"], Float[Array, "T L d"]]:
    """The numerical errors of the layers and of their velocities."""
    record = momentum_record(trajectory)
    if record.pair is None:
        layers, velocity = integration_error(
            trajectory,
            (deep_diagonal(rows.parameterization).layers, deep_diagonal(record.velocity).layers),
        )
        return layers, velocity
    # For w = w(0) e^m cos(phi) and sqrt(lambda) w' = w(0) e^m sin(phi).
    start = jnp.abs(rotate(deep_diagonal(trajectory.initial).layers))[None]
    each = start * jnp.exp(record.pair.growth) * pair_errors(trajectory, record.pair)
    error = jnp.broadcast_to(jnp.sum(each, axis=1, keepdims=True) / 2**0.5, each.shape)
    return error, error / jnp.sqrt(record.inertia)


def pair_errors(trajectory: Trajectory, pair: PairRecord) -> Float[Array, "T 2 d"]:
    """The error of growth plus that of the angle, relative to the amplitude w(0) e^m."""
    growth, angle = integration_error(trajectory, (pair.growth, pair.angle))
    return growth + angle
