"""Losses that rise before they fall."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, Int
from ddln.flows import Trajectory
from ddln.theory._path import path


class Catapult(eqx.Module):
    """How far the loss of a descent has risen.

    Attributes:
        climb: the most that a loss is above the least one before it, over the first loss.
        step: the step of that loss; 0 if none is above an earlier one.
        rises: at how many saved rows the loss is above that of the row before, by more than the
            rounding of the first loss.
    """

    climb: Float[Array, ""]
    step: Float[Array, ""]
    rises: Int[Array, ""]


def catapult(trajectory: Trajectory) -> Catapult:
    """How far the loss has risen along a descent, as far as its rows tell.

    Under gradient flow the loss never rises. With a step above 2 / sharpness it rises until the descent
    has left for flatter ground, if it is not thrown out of reach: save the first steps one by one to
    see it.

    Example:
        >>> run = ddln.descend(network, loss, optax.sgd(1.0), 10_000, ts=range(200))
        >>> ddln.theory.catapult(run).climb

    Args:
        trajectory: a descent with two saved rows or more, the first one at step 0.

    Source: Lewkowycz et al. 2020.
    """
    rows = path(trajectory)
    first = rows.loss[0]
    rounding = 4 * jnp.finfo(first.dtype).eps * first
    above = rows.loss - jax.lax.cummin(rows.loss)
    highest = jnp.argmax(above)
    return Catapult(
        climb=above[highest] / jnp.where(first > 0, first, 1),
        step=rows.ts[highest],
        rises=jnp.sum(rows.loss[1:] > rows.loss[:-1] + rounding),
    )
