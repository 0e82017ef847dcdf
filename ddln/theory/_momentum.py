"""What statements about momentum ask of a trajectory, and its numerical error."""

import jax.numpy as jnp

from ddln._types import Array, Float
from ddln.flows import MomentumRecord, PairRecord, Trajectory
from ddln.flows.states import rotate
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._errors import integration_error
from ddln.theory._path import Path


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


def pair_record(trajectory: Trajectory) -> PairRecord:
    """The record of two layers in angles.

    Raises:
        ValueError: if the trajectory has none.
    """
    pair = momentum_record(trajectory).pair
    if pair is None:
        raise ValueError(
            "Argument `trajectory` must be a `ddln.momentum_flow` of a `ddln.DeepDiagonal` with two "
            "layers in reduced coordinates, which see every change of sign, but it is "
            f"{trajectory.method!r}."
        )
    return pair


def motion_errors(
    trajectory: Trajectory, rows: Path
) -> tuple[Float[Array, "T L d"], Float[Array, "T L d"]]:
    """The numerical error of the layers, and of their velocities."""
    record = momentum_record(trajectory)
    if record.pair is None:
        layers, velocity = integration_error(
            trajectory,
            (deep_diagonal(rows.parameterization).layers, deep_diagonal(record.velocity).layers),
        )
        return layers, velocity
    # Of w = w(0) e^m cos(phi) and sqrt(lambda) w' = w(0) e^m sin(phi).
    start = jnp.abs(rotate(deep_diagonal(trajectory.initial).layers))[None]
    each = start * jnp.exp(record.pair.growth) * pair_errors(trajectory, record.pair)
    error = jnp.broadcast_to(jnp.sum(each, axis=1, keepdims=True) / 2**0.5, each.shape)
    return error, error / jnp.sqrt(record.inertia)


def pair_errors(trajectory: Trajectory, pair: PairRecord) -> Float[Array, "T 2 d"]:
    """The error of growth plus that of the angle: relative to the amplitude w(0) e^m."""
    growth, angle = integration_error(trajectory, (pair.growth, pair.angle))
    return growth + angle
