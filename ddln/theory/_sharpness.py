"""The largest curvature of the loss of the weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._types import Array, Float, Loss, PRNGKeyArray, Scalar
from ddln.parameterizations import AbstractParameterization


def sharpness(
    parameterization: AbstractParameterization,
    loss: Loss,
    *,
    iterations: int = 64,
    key: PRNGKeyArray | None = None,
) -> Scalar:
    """The largest eigenvalue of the Hessian of L(h(w)) with respect to the weights.

    Gradient descent with step gamma is stable near a minimum if this is below 2 / gamma; training with
    larger steps tends to end close to that edge. By Lanczos' method with full
    reorthogonalization on Hessian-vector products, so that no P by P matrix is formed: the largest
    Ritz value, a lower bound, exact to rounding if `iterations` >= P. Differentiable (as the Rayleigh
    quotient of a fixed vector); for `jax.jit` and `jax.vmap`.

    Example:
        >>> run = ddln.descend(network, loss, optax.sgd(0.1), 10_000)
        >>> ddln.theory.sharpness(run.final, loss) * 0.1

    Args:
        parameterization: the weights to look at.
        loss: L(theta), twice differentiable.
        iterations: the largest dimension of the Krylov space.
        key: a JAX random key for the first vector; None takes `jax.random.key(0)`.

    Raises:
        ValueError: if `iterations` < 1.

    Source: Lanczos 1950; Cohen et al. 2021 for the edge of stability.
    """
    if iterations < 1:
        raise ValueError(f"Argument `iterations` must be at least 1, but it is {iterations}.")
    weights, static = eqx.partition(parameterization, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(weights)

    def value(w):
        return loss(eqx.combine(unravel(w), static).effective())

    def hessian_product(w, direction):
        return jax.jvp(jax.grad(value), (w,), (direction,))[1]

    key = jax.random.key(0) if key is None else key
    fixed = jax.lax.stop_gradient(flat)
    vector = _largest_ritz_vector(
        lambda v: hessian_product(fixed, v),
        jax.random.normal(key, flat.shape, flat.dtype),
        min(iterations, flat.size),
    )
    vector = jax.lax.stop_gradient(vector)
    return jnp.vdot(vector, hessian_product(flat, vector))


def _largest_ritz_vector(product, start: Float[Array, " P"], iterations: int) -> Float[Array, " P"]:
    def step(carry, index):
        basis, vector = carry
        basis = basis.at[index].set(vector)
        image = product(vector)
        diagonal = jnp.vdot(vector, image)
        rest = image
        for _ in range(2):
            # Once is not enough where the Krylov space is nearly complete.
            rest = rest - basis.T @ (basis @ rest)
        length = jnp.linalg.norm(rest)
        grown = length > 1e3 * float(jnp.finfo(start.dtype).eps) * jnp.linalg.norm(image)
        following = jnp.where(grown, rest / jnp.where(grown, length, 1), 0)
        # A zero vector ends the space; its diagonal entry must not be mistaken for an eigenvalue.
        alive = jnp.any(vector != 0)
        return (basis, following), (diagonal, jnp.where(grown, length, 0), alive)

    basis = jnp.zeros((iterations, start.size), start.dtype)
    first = start / jnp.linalg.norm(start)
    (basis, _), (diagonal, lengths, alive) = jax.lax.scan(
        step, (basis, first), jnp.arange(iterations)
    )
    diagonal = jnp.where(alive, diagonal, jnp.min(diagonal) - 1)
    tridiagonal = jnp.diag(diagonal) + jnp.diag(lengths[:-1], 1) + jnp.diag(lengths[:-1], -1)
    _, vectors = jnp.linalg.eigh(tridiagonal)
    found = vectors[:, -1] @ basis
    return found / jnp.linalg.norm(found)
