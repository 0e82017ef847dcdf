"""The saved rows of a trajectory, made free of NaN."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float
from ddln.flows import Trajectory
from ddln.parameterizations import AbstractParameterization


class Rows(eqx.Module):
    """The saved rows of a trajectory, with replacements for rows that were not reached.

    A row that was not reached holds the weights and theta of the start, with the time and the loss
    of the last row that was reached, so that it disturbs no sum and no derivative. No check compares
    such a row.

    Attributes:
        ts: the times, shape [T].
        reached: False in rows that were replaced, shape [T].
        parameterization: the weights, leading axis T.
        theta: the effective parameters, shape [T, *theta].
        loss: the losses, shape [T].
        known_dual: the dual, shape [T, *theta], or None if it was not integrated.
    """

    ts: Float[Array, " T"]
    reached: Bool[Array, " T"]
    parameterization: AbstractParameterization
    theta: Float[Array, "T *theta"]
    loss: Float[Array, " T"]
    known_dual: Float[Array, "T *theta"] | None

    @property
    def dual(self) -> Float[Array, "T *theta"]:
        """The dual, shape [T, *theta]; an error if the flow was integrated without it."""
        if self.known_dual is None:
            raise ValueError(
                "Argument `trajectory` must have its dual, but the flow was integrated with "
                "`dual=False`. Leave that out."
            )
        return self.known_dual


def fill_unreached(trajectory: Trajectory) -> Rows:
    """Replace the rows of a trajectory that were not reached.

    Raises:
        ValueError: if it is a batch.
    """
    if trajectory.ts.ndim != 1:
        raise ValueError(
            f"Argument `trajectory` must be one flow, but its `ts` has shape {trajectory.ts.shape}. For a "
            "batch use `jax.vmap(lambda one: ddln.theory.pl_rate(one, loss))(trajectory)`, and so on."
        )
    reached = jnp.isfinite(trajectory.ts)

    def fill(leaf: Array, first: Array) -> Array:
        mask = reached.reshape(reached.shape + (1,) * (leaf.ndim - 1))
        return jnp.where(mask, leaf, first[None])

    rows, rest = eqx.partition(trajectory.parameterization, eqx.is_inexact_array)
    start = eqx.filter(trajectory.initial, eqx.is_inexact_array)
    theta0 = trajectory.initial.effective()
    last = jnp.sum(reached) - 1

    def repeat_last(values: Float[Array, " T"]) -> Float[Array, " T"]:
        return jnp.where(reached, values, jnp.where(jnp.any(reached), values[last], 0))

    return Rows(
        ts=repeat_last(trajectory.ts),
        reached=reached,
        parameterization=eqx.combine(jax.tree.map(fill, rows, start), rest),
        theta=fill(trajectory.theta, theta0),
        loss=repeat_last(trajectory.loss),
        known_dual=jax.tree.map(lambda leaf: fill(leaf, jnp.zeros_like(theta0)), trajectory.dual),
    )
