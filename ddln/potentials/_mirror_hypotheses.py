"""Random tests of the hypotheses of a mirror flow: commuting gradient fields, full rank."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree

from ddln._numerics import pull_back
from ddln._types import Array, Float, Int, PRNGKeyArray, Scalar
from ddln.parameterizations import AbstractParameterization
from ddln.potentials._flow_map import flow_map, split


def random_directions(
    key: PRNGKeyArray, shape: tuple[int, ...], dtype: jnp.dtype
) -> Float[Array, "..."]:
    """Uniform directions in [-1, 1), bit for bit the same in every precision and compilation.

    XLA may compute one draw in two places of a program. Two copies of a normal draw then differ by
    rounding; multiples of 2^-22 are computed without rounding.

    Args:
        key: a JAX random key.
        shape: the shape of the array of directions.
        dtype: its dtype.
    """
    return jax.random.uniform(key, shape, jnp.float32, minval=-1, maxval=1).astype(dtype)


@eqx.filter_jit
def bracket_residual(
    parameterization: AbstractParameterization, key: PRNGKeyArray, pairs: int = 4
) -> Scalar:
    """Largest Lie bracket of gradient fields of h, relative to its terms, at these weights.

    For random directions a and b let h_a = <a, h>. The bracket of grad h_a and grad h_b is
    hess h_b grad h_a - hess h_a grad h_b: the derivative of J^T b along J^T a minus the reverse.
    A parameterization commutes if all brackets vanish.
    """
    weights, static = split(parameterization)
    flat, unravel = ravel_pytree(weights)
    shape = parameterization.effective().shape

    def field(direction: Array, w: Float[Array, " P"]) -> Float[Array, " P"]:
        _, pull = jax.vjp(lambda x: eqx.combine(unravel(x), static).effective(), w)
        return pull(direction)[0]

    def residual(key: PRNGKeyArray) -> Scalar:
        a, b = random_directions(key, (2, *shape), flat.dtype)
        ab = jax.jvp(lambda w: field(b, w), (flat,), (field(a, flat),))[1]
        ba = jax.jvp(lambda w: field(a, w), (flat,), (field(b, flat),))[1]
        # Relative to the natural size of a bracket as well, so that rounding does not pass for one.
        natural = optx.two_norm(field(a, flat)) * optx.two_norm(field(b, flat))
        distance = optx.two_norm(flat)
        natural = natural / jnp.where(distance > 0, distance, 1)
        natural = natural * float(jnp.finfo(flat.dtype).eps) ** 0.25
        size = optx.two_norm(ab) + optx.two_norm(ba) + natural
        return optx.two_norm(ab - ba) / jnp.where(size > 0, size, 1)

    return jnp.max(jax.vmap(residual)(jax.random.split(key, pairs)))


@eqx.filter_jit
def _evidence(
    parameterization: AbstractParameterization, key: PRNGKeyArray
) -> tuple[Scalar, Int[Array, ""]]:
    """Largest bracket residual, at the start and along the flow, and the rank of J."""
    direction_key, *keys = jax.random.split(key, 3)
    theta = parameterization.effective()
    direction = jax.random.normal(direction_key, theta.shape, theta.dtype)
    weights, static = split(parameterization)
    # A second point of the flow; nan, which `fmax` ignores, if xi is beyond its range.
    speed = optx.two_norm(pull_back(parameterization, direction))
    xi = 0.1 * optx.two_norm(weights) / jnp.where(speed > 0, speed, 1) * direction
    away = eqx.combine(flow_map(parameterization, xi)[0], static)
    here_residual, away_residual = (
        bracket_residual(p, k) for p, k in zip((parameterization, away), keys, strict=True)
    )
    rank = jnp.linalg.matrix_rank(parameterization.jacobian())
    return jnp.fmax(here_residual, away_residual), rank


def require_mirror_flow(parameterization: AbstractParameterization) -> None:
    """Raise unless the parameterization commutes and is regular, by random tests.

    Raises:
        ValueError: if two gradient fields of h do not commute, or J does not have full rank.
    """
    residual, rank = _evidence(parameterization, jax.random.key(0))
    theta = parameterization.effective()
    name = type(parameterization).__name__
    if not float(residual) <= float(jnp.finfo(theta.dtype).eps) ** 0.5:
        raise ValueError(
            f"The gradient flow of {name} is not a mirror flow, because its gradient fields do not "
            f"commute: the relative Lie bracket residual is {float(residual):.1e}. "
            "It has no potential."
        )
    if int(rank) < theta.size:
        raise ValueError(
            f"The gradient flow of {name} is not a mirror flow from here, because the "
            f"parameterization is not regular: its Jacobian has rank {int(rank)} where theta has "
            f"{theta.size} coordinates. Start elsewhere, or leave out coordinates that cannot move."
        )
