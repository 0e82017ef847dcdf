"""Whether the metric can be the inverse Hessian of a potential."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx

from ddln._types import Array, Float, PRNGKeyArray, Scalar
from ddln.parameterizations import AbstractParameterization
from ddln.potentials._mirror_hypotheses import random_directions
from ddln.theory._check import Check
from ddln.theory._points import points_of

PAIRS = 4


def integrability(
    parameterization: AbstractParameterization,
    *,
    points: int | AbstractParameterization = 3,
    key: PRNGKeyArray | None = None,
) -> Check:
    """D(M b)[J^T a] = D(M a)[J^T b] for all a and b: what every mirror flow satisfies.

    It is J times the Lie bracket of grad <a, h> and grad <b, h>, so it follows from `commutator`.
    Conversely it is necessary: along a mirror flow M is the inverse Hessian of Q, so that M a is the
    coordinate field d theta / d xi_a, and coordinate fields commute. Where it is violated at points
    that the flow can reach, there is no potential, of no kind. The left side is the largest norm of
    the difference relative to its terms, over four random pairs a, b at each point.

    Args:
        parameterization: the map, at its weights.
        points: as in `commutator`; `points=flow.parameterization` follows a flow.
        key: for the random points and pairs; None takes `jax.random.key(0)`.

    Returns:
        a check with axes (point,); with random points the first entry is the weights themselves.

    Source: the derivation above; Li, Wang, Lee and Arora 2022 state the same necessary condition as
    brackets in the kernel of J.
    """
    return _integrability(parameterization, points, key)


@eqx.filter_jit
def _integrability(parameterization, points, key) -> Check:
    flat_map, weights, key = points_of(parameterization, points, key)
    shape = parameterization.effective().shape

    def residual(w: Float[Array, " P"], a: Array, b: Array) -> Scalar:
        def change(along: Array, of: Array) -> Array:
            velocity = flat_map.gradient(w, along)
            return jax.jvp(lambda x: flat_map.at(x).metric_product(of), (w,), (velocity,))[1]

        first, second = change(a, b), change(b, a)
        # The natural size of the terms keeps rounding from looking like a difference.
        speeds = optx.two_norm(flat_map.gradient(w, a)) * optx.two_norm(flat_map.gradient(w, b))
        length = jnp.where(optx.two_norm(w) > 0, optx.two_norm(w), 1)
        natural = speeds * optx.two_norm(flat_map.effective(w)) / length**2
        size = (
            optx.two_norm(first) + optx.two_norm(second) + jnp.finfo(w.dtype).eps ** 0.25 * natural
        )
        return optx.two_norm(first - second) / jnp.where(size > 0, size, 1)

    def largest(w: Float[Array, " P"], key: PRNGKeyArray) -> Scalar:
        pairs = random_directions(key, (2, PAIRS, *shape), w.dtype)
        return jnp.max(jax.vmap(residual, in_axes=(None, 0, 0))(w, pairs[0], pairs[1]))

    lhs = jax.vmap(largest)(weights, jax.random.split(key, weights.shape[0]))
    return Check(
        name="integrability",
        source="the derivation in its documentation; Li et al. 2022",
        statement="the metric is the inverse Hessian of some Q: D(M b)[J^T a] - D(M a)[J^T b] is 0",
        relation="==",
        axes=("point",),
        lhs=lhs,
        rhs=jnp.zeros_like(lhs),
        tolerance=float(jnp.finfo(lhs.dtype).eps) ** 0.5,
        compared=jnp.ones_like(lhs, bool),
    )
