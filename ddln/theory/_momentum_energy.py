"""Friction takes energy out of a momentum flow."""

import jax
import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._errors import integration_error, loss_error, rounding
from ddln.theory._momentum import momentum_record
from ddln.theory._path import path


def momentum_energy(trajectory: Trajectory, loss: Loss) -> Check:
    """L(theta) + (lambda/2) |w'|^2 does not increase: its derivative is -d(t) |w'|^2.

    Compared are the saved times with those before them, the first with the start, but for times from
    which on the energy changes by less than its numerical error.

    Args:
        trajectory: a `ddln.momentum_flow` of any parameterization.
        loss: the loss it was integrated with.

    Returns:
        a check with axes (time,), shape [T].

    Raises:
        ValueError: if the trajectory is of another flow.
    """
    record = momentum_record(trajectory)
    rows = path(trajectory)
    velocities = jax.tree.leaves(record.velocity)
    errors = jax.tree.leaves(integration_error(trajectory, record.velocity))

    def summed(leaves):
        return sum(jnp.sum(leaf.reshape(leaf.shape[0], -1), axis=1) for leaf in leaves)

    energy = rows.loss + record.inertia / 2 * summed([jnp.square(leaf) for leaf in velocities])
    error = loss_error(trajectory, rows, loss) + record.inertia * summed(
        [jnp.abs(leaf) * off for leaf, off in zip(velocities, errors, strict=True)]
    )
    start = loss(trajectory.initial.effective())[None]
    before = jnp.concatenate([start, energy[:-1]])
    tolerance = error + jnp.concatenate([rounding(start), error[:-1]])
    ahead = jnp.maximum(jnp.abs(before - energy), jnp.abs(before - energy[-1]))
    return Check(
        name="momentum_energy",
        source="d/dt (L + (lambda/2) |w'|^2) = -d(t) |w'|^2",
        statement="L(theta) + (lambda/2) |w'|^2 does not increase",
        relation="<=",
        axes=("time",),
        lhs=energy,
        rhs=before,
        tolerance=tolerance,
        compared=rows.reached & (ahead > tolerance),
    )
