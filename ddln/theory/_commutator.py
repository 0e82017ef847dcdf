"""Whether the gradient fields of a map commute."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, PRNGKeyArray
from ddln.parameterizations import AbstractParameterization
from ddln.potentials._mirror_hypotheses import bracket_residual
from ddln.theory._check import Check
from ddln.theory._points import points_of


def commutator(
    parameterization: AbstractParameterization,
    *,
    points: int | AbstractParameterization = 3,
    key: PRNGKeyArray | None = None,
) -> Check:
    """[grad h_a, grad h_b] = hess h_b grad h_a - hess h_a grad h_b = 0 for all h_a = <a, h>.

    The left side is the largest norm of a bracket relative to those of its two terms, over four
    random pairs a, b at each point, by the derivative of one gradient field along another: no
    Hessian is formed. A map whose brackets vanish at every point commutes; if it is regular too,
    its gradient flow is a mirror flow from every start. Along a flow,
    `commutator(flow.initial, points=flow.parameterization)` has a value for each saved time.

    Example:
        >>> commutator(ddln.WeightNorm(1.0, jnp.array([3.0, 4.0]))).status
        'violated'

    Args:
        parameterization: the map, at its weights.
        points: a number of random points around the weights, which are compared besides the weights
            themselves; or the points, as a parameterization whose weights have a leading axis.
        key: for the random points and pairs; None takes `jax.random.key(0)`.

    Returns:
        a check with axes (point,); with random points the first entry is the weights themselves.

    Source: Li, Wang, Lee and Arora 2022, Definition 4.5 and Theorem 4.9.
    """
    return _commutator(parameterization, points, key)


@eqx.filter_jit
def _commutator(parameterization, points, key) -> Check:
    flat_map, weights, key = points_of(parameterization, points, key)

    def residual(w: Float[Array, " P"], key: PRNGKeyArray):
        return bracket_residual(flat_map.at(w), key)

    lhs = jax.vmap(residual)(weights, jax.random.split(key, weights.shape[0]))
    return Check(
        name="commutator",
        source="Li et al. 2022, Theorem 4.9",
        statement="the gradient fields of h commute: the largest relative Lie bracket is 0",
        relation="==",
        axes=("point",),
        lhs=lhs,
        rhs=jnp.zeros_like(lhs),
        tolerance=float(jnp.finfo(lhs.dtype).eps) ** 0.5,
        compared=jnp.ones_like(lhs, bool),
    )
