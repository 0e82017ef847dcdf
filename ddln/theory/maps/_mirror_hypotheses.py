"""The hypotheses of a mirror flow: commuting gradient fields, an integrable metric, full rank."""

import jax
import jax.numpy as jnp
import optimistix as optx

from ddln._types import Array, Float, PRNGKeyArray, Scalar
from ddln.parameterizations import AbstractParameterization
from ddln.potentials import bracket_residual, random_directions
from ddln.theory._law import Sides, law
from ddln.theory.maps._points import points_of

PAIRS = 4


@law(
    source="Li, Wang, Lee and Arora 2022, Definition 4.5 and Theorem 4.9",
    relation="==",
    axes=("point",),
    jit=True,
)
def commutator(
    parameterization: AbstractParameterization,
    *,
    points: int | AbstractParameterization = 3,
    key: PRNGKeyArray | None = None,
) -> Sides:
    """The gradient fields of h commute: [grad h_a, grad h_b] = hess h_b grad h_a - hess h_a grad h_b = 0
    for all h_a = <a, h>.

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
    """
    flat_map, weights, key = points_of(parameterization, points, key)

    def residual(w: Float[Array, " P"], key: PRNGKeyArray):
        return bracket_residual(flat_map.at(w), key)

    return _vanishing(jax.vmap(residual)(weights, jax.random.split(key, weights.shape[0])))


@law(
    source="the derivation in its documentation; Li, Wang, Lee and Arora 2022",
    relation="==",
    axes=("point",),
    jit=True,
)
def integrability(
    parameterization: AbstractParameterization,
    *,
    points: int | AbstractParameterization = 3,
    key: PRNGKeyArray | None = None,
) -> Sides:
    """The metric is the inverse Hessian of some Q: D(M b)[J^T a] = D(M a)[J^T b] for all a and b.

    Every mirror flow satisfies it. The difference is J times the Lie bracket of grad <a, h> and
    grad <b, h>, so the statement follows from `commutator`. Conversely it is necessary: along a
    mirror flow M is the inverse Hessian of Q, so that M a is the coordinate field d theta / d xi_a,
    and coordinate fields commute. If it is violated at points that the flow can reach, there is no
    potential of any kind. The left side is the largest norm of the difference relative to its
    terms, over four random pairs a, b at each point. The source states the same necessary condition
    as brackets in the kernel of J.

    Args:
        parameterization: the map, at its weights.
        points: as in `commutator`; `points=flow.parameterization` follows a flow.
        key: for the random points and pairs; None takes `jax.random.key(0)`.

    Returns:
        a check with axes (point,); with random points the first entry is the weights themselves.
    """
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

    return _vanishing(jax.vmap(largest)(weights, jax.random.split(key, weights.shape[0])))


@law(
    source="Li, Wang, Lee and Arora 2022, Definition 4.3", relation="<=", axes=("point",), jit=True
)
def regularity(
    parameterization: AbstractParameterization,
    *,
    points: int | AbstractParameterization = 3,
    key: PRNGKeyArray | None = None,
) -> Sides:
    """The map is regular: the size of theta is at most the rank of J.

    So theta can move in every direction. Each row of J is scaled to norm one first; the rank counts
    the singular values above max(D, P) eps times the largest one.

    Example:
        >>> check = regularity(ddln.SymmetricFactorization(jnp.eye(2)))
        >>> check.rhs  # symmetric matrices have three entries
        Array([3., 3., 3., 3.], dtype=float64)

    Args:
        parameterization: the map, at its weights.
        points: as in `commutator`.
        key: for the random points; None takes `jax.random.key(0)`.

    Returns:
        a check with axes (point,): the left side is D, the right side the rank. With random points
        the first entry is the weights themselves.
    """
    flat_map, weights, _ = points_of(parameterization, points, key)
    ranks = jax.vmap(lambda w: jnp.linalg.matrix_rank(flat_map.scaled_jacobian(w)))(weights)
    ranks = ranks.astype(weights.dtype)
    size = jnp.full_like(ranks, parameterization.effective().size)
    return Sides(size, ranks, 0.0, jnp.ones_like(ranks, bool))


def _vanishing(residuals: Float[Array, " point"]) -> Sides:
    """Residuals that are zero, up to half of the digits."""
    tolerance = float(jnp.finfo(residuals.dtype).eps) ** 0.5
    return Sides(residuals, jnp.zeros_like(residuals), tolerance, jnp.ones_like(residuals, bool))
