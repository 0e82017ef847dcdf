"""Integrals along a trajectory, with their numerical error."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, Loss, PyTree, Scalar
from ddln.flows import Trajectory
from ddln.parameterizations import AbstractParameterization
from ddln.theory._rows import Rows

# Subintervals of each saved interval where the trajectory has dense output.
REFINEMENT = 16
# Largest length of the solution path between two nodes, relative to the straight line,
LONGEST_DETOUR = 2.0
# for moves longer than this, relative to the root mean square of the weights.
NEGLIGIBLE_MOVE = 0.01


class Integral(eqx.Module):
    """int_0^t f ds at the saved times, between two values.

    Attributes:
        lower: the lower value, shape [T].
        upper: the upper value, shape [T].
        determined: True if the nodes up to that time determine the integral at all, shape [T].
    """

    lower: Float[Array, " T"]
    upper: Float[Array, " T"]
    determined: Bool[Array, " T"]

    def times(self, factor: float | Scalar) -> "Integral":
        """The integral of factor f, for a nonnegative factor."""
        return Integral(factor * self.lower, factor * self.upper, self.determined)

    @classmethod
    def exactly(cls, values: Float[Array, " T"]) -> "Integral":
        """An integral in closed form."""
        return cls(values, values, jnp.ones_like(values, bool))


def integral(
    trajectory: Trajectory,
    rows: Rows,
    loss: Loss,
    rate: Callable[[AbstractParameterization], Scalar],
) -> Integral:
    """int_0^t rate(w(s)) ds along a gradient flow, from nodes at 0 and the saved times.

    The lower and the upper sum of the values at neighbouring nodes enclose the integral if the rate
    is monotone in between. The loss shows if the nodes are close enough for that to be credible: a
    gradient flow has |w'|^2 = -dL/dt, so by Cauchy-Schwarz its solution path over a time h is at
    most sqrt(h (L_k - L_{k+1})) long. If that is more than twice the distance of the ends, and not
    negligible, the flow may have been elsewhere in between, and the integral counts as undetermined
    from there on. With dense output there are 16 nodes for each saved time.
    """
    start, rest = eqx.partition(trajectory.initial, eqx.is_inexact_array)
    nodes = jnp.concatenate([jnp.zeros_like(rows.ts[:1]), rows.ts])
    if trajectory.interpolation is None:
        saved = eqx.filter(rows.parameterization, eqx.is_inexact_array)
        weights = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, saved)
    else:
        fractions = jnp.linspace(0, 1, REFINEMENT, endpoint=False, dtype=nodes.dtype)
        inner = nodes[:-1, None] + jnp.diff(nodes)[:, None] * fractions[None, :]
        nodes = jnp.concatenate([inner.reshape(-1), nodes[-1:]])
        weights = jax.vmap(lambda t: eqx.filter(trajectory.evaluate(t), eqx.is_inexact_array))(
            nodes
        )

    def at_node(w: PyTree[Array]) -> tuple[Scalar, Scalar]:
        parameterization = eqx.combine(w, rest)
        return rate(parameterization), loss(parameterization.effective())

    # One call for all nodes: two batched matrix decompositions that XLA runs at the same time
    # on a CPU can deadlock (seen with jaxlib 0.10.2, two threads).
    values, losses = jax.vmap(at_node)(weights)
    lengths = jnp.diff(nodes)
    # Intervals of length zero belong to rows that were not reached: their rate may be anything.
    went = lengths > 0
    longest = jnp.sqrt(lengths * jnp.maximum(-jnp.diff(losses), 0))
    far = longest > LONGEST_DETOUR * _norm(jax.tree.map(lambda w: jnp.diff(w, axis=0), weights))
    count = sum(leaf[0].size for leaf in jax.tree.leaves(weights))
    size = _norm(jax.tree.map(lambda w: w[:-1], weights)) / count**0.5
    lost = went & far & (longest > NEGLIGIBLE_MOVE * size)

    def accumulate(areas: Array) -> Float[Array, " T"]:
        areas = jnp.where(went, areas, 0)
        return jnp.cumsum(jnp.sum(areas.reshape(rows.ts.shape[0], -1), axis=1))

    return Integral(
        lower=accumulate(lengths * jnp.minimum(values[:-1], values[1:])),
        upper=accumulate(lengths * jnp.maximum(values[:-1], values[1:])),
        determined=accumulate(lost.astype(nodes.dtype)) == 0,
    )


def _norm(tree: PyTree[Array]) -> Float[Array, " N"]:
    """The norm of each row: over all leaves, and all axes except the first."""
    leaves = [
        jnp.sum(jnp.square(leaf).reshape(leaf.shape[0], -1), axis=1)
        for leaf in jax.tree.leaves(tree)
    ]
    return jnp.sqrt(sum(leaves[1:], leaves[0]))
