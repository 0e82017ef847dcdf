"""Integrals along a trajectory, with their error."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, Scalar
from ddln.flows import Trajectory
from ddln.parameterizations import AbstractParameterization
from ddln.theory._path import Path

# Subintervals of each saved interval where the trajectory has dense output.
REFINEMENT = 16


def integral(
    trajectory: Trajectory, path: Path, rate: Callable[[AbstractParameterization], Scalar]
) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
    """Brackets int_0^t rate(w(s)) ds at the saved times.

    By the lower and the upper sum of its values at neighbouring nodes, which enclose the integral
    if the rate is monotone in between. The nodes are 0 and the saved times, so save often enough;
    with dense output there are 16 nodes for each of them.

    Returns:
        the lower and the upper sum, each of shape [T].
    """
    nodes = jnp.concatenate([jnp.zeros_like(path.ts[:1]), path.ts])
    if trajectory.interpolation is None:
        start, rest = eqx.partition(trajectory.initial, eqx.is_inexact_array)
        saved = eqx.filter(path.parameterization, eqx.is_inexact_array)
        weights = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, saved)
        # One call for all nodes: two batched matrix decompositions that XLA runs at the same time
        # on a CPU can wait for each other for ever (seen with jaxlib 0.10.2, two threads).
        values = jax.vmap(lambda w: rate(eqx.combine(w, rest)))(weights)
    else:
        fractions = jnp.linspace(0, 1, REFINEMENT, endpoint=False, dtype=nodes.dtype)
        inner = nodes[:-1, None] + jnp.diff(nodes)[:, None] * fractions[None, :]
        nodes = jnp.concatenate([inner.reshape(-1), nodes[-1:]])
        values = jax.vmap(lambda t: rate(trajectory.evaluate(t)))(nodes)
    lengths = jnp.diff(nodes)
    left, right = values[:-1], values[1:]

    def accumulate(heights: Float[Array, " N"]) -> Float[Array, " T"]:
        # Where the flow did not go the rate may be anything.
        areas = jnp.where(lengths > 0, lengths * heights, 0)
        return jnp.cumsum(jnp.sum(areas.reshape(path.ts.shape[0], -1), axis=1))

    return accumulate(jnp.minimum(left, right)), accumulate(jnp.maximum(left, right))
