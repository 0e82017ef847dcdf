"""Whether the Jacobian of a map has full row rank."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, PRNGKeyArray
from ddln.parameterizations import AbstractParameterization
from ddln.theory._check import Check
from ddln.theory._points import FlatMap, points_of


def regularity(
    parameterization: AbstractParameterization,
    *,
    points: int | AbstractParameterization = 3,
    key: PRNGKeyArray | None = None,
) -> Check:
    """D <= rank J: theta, of size D, can move in every direction.

    Each row of J is scaled to norm one first; the rank counts the singular values above
    max(D, P) eps times the largest one.

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

    Source: Li, Wang, Lee and Arora 2022, Definition 4.3.
    """
    return _regularity(parameterization, points, key)


@eqx.filter_jit
def _regularity(parameterization, points, key) -> Check:
    flat_map, weights, _ = points_of(parameterization, points, key)
    ranks = jax.vmap(lambda w: jnp.linalg.matrix_rank(scaled_jacobian(flat_map, w)))(weights)
    ranks = ranks.astype(weights.dtype)
    return Check(
        name="regularity",
        source="Li et al. 2022, Definition 4.3",
        statement="the map is regular: the size of theta is at most the rank of J",
        relation="<=",
        axes=("point",),
        lhs=jnp.full_like(ranks, parameterization.effective().size),
        rhs=ranks,
        tolerance=0.0,
        compared=jnp.ones_like(ranks, bool),
    )


def jacobian(flat_map: FlatMap, w: Float[Array, " P"]) -> Float[Array, "D P"]:
    """J at w, by the smaller number of derivative passes."""
    size = jax.eval_shape(flat_map.effective, w).size
    derivative = jax.jacfwd if w.size < size else jax.jacrev
    return derivative(lambda x: flat_map.effective(x).reshape(-1))(w)


def scaled_jacobian(flat_map: FlatMap, w: Float[Array, " P"]) -> Float[Array, "D P"]:
    """The rows of J at w, those that are not zero scaled to norm one."""
    rows = jacobian(flat_map, w)
    norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows / jnp.where(norms > 0, norms, 1)
