"""The edge of stability: the largest curvature of the loss, and losses that rise."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import first_order, product
from ddln._types import Array, Float, Int, Loss, PRNGKeyArray, Scalar
from ddln.flows import Trajectory
from ddln.parameterizations import AbstractParameterization
from ddln.theory._krylov import krylov
from ddln.theory._rows import fill_unreached


def sharpness(
    parameterization: AbstractParameterization,
    loss: Loss,
    *,
    iterations: int = 64,
    key: PRNGKeyArray | None = None,
) -> Scalar:
    """The largest eigenvalue of the Hessian of L(h(w)) with respect to the weights.

    Gradient descent with step gamma is stable near a minimum if this is below 2 / gamma; training with
    larger steps tends to end close to that edge. Computed by Lanczos' method with full
    reorthogonalization on Hessian-vector products, without a P by P matrix: the largest Ritz value,
    a lower bound, exact to rounding if `iterations` >= P. Differentiable once, by the Rayleigh quotient
    of a fixed vector; for `jax.jit` and `jax.vmap`.

    Example:
        >>> run = ddln.descend(network, loss, optax.sgd(0.1), 10_000)
        >>> ddln.theory.sharpness(run.final, loss) * 0.1

    Args:
        parameterization: the weights.
        loss: L(theta), twice differentiable.
        iterations: the largest dimension of the Krylov space.
        key: a JAX random key for the first vector; None takes `jax.random.key(0)`.

    Raises:
        ValueError: if `iterations` < 1, or it is differentiated twice.

    Source: Lanczos 1950; Cohen et al. 2021 for the edge of stability.
    """
    if iterations < 1:
        raise ValueError(f"Argument `iterations` must be at least 1, but it is {iterations}.")
    parameterization, loss = first_order("sharpness", (parameterization, loss))
    weights, static = eqx.partition(parameterization, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(weights)

    def value(w):
        return loss(eqx.combine(unravel(w), static).effective())

    def hessian_product(w, direction):
        return jax.jvp(jax.grad(value), (w,), (direction,))[1]

    key = jax.random.key(0) if key is None else key
    fixed = jax.lax.stop_gradient(flat)
    space = krylov(
        lambda v: hessian_product(fixed, v),
        jax.random.normal(key, flat.shape, flat.dtype),
        min(iterations, flat.size),
    )
    vector = product(space.vectors[:, -1], space.basis)
    vector = jax.lax.stop_gradient(vector / jnp.linalg.norm(vector))
    return product(vector, hessian_product(flat, vector))


class Catapult(eqx.Module):
    """The rise of the loss along a descent.

    Attributes:
        climb: the largest excess of a loss over the least one before it, relative to the first loss.
        step: the step of that loss; 0 if the loss never rises.
        rises: the number of saved rows with a loss above the row before, by more than the rounding
            of the first loss.
    """

    climb: Float[Array, ""]
    step: Float[Array, ""]
    rises: Int[Array, ""]


def catapult(trajectory: Trajectory) -> Catapult:
    """The rise of the loss along the saved rows of a descent.

    Under gradient flow the loss never rises. With a step above 2 / sharpness it rises until the
    descent has reached flatter ground or diverges: save the first steps one by one to see the rise.

    Example:
        >>> run = ddln.descend(network, loss, optax.sgd(1.0), 10_000, ts=range(200))
        >>> ddln.theory.catapult(run).climb

    Args:
        trajectory: a descent with two saved rows or more, the first one at step 0.

    Source: Lewkowycz et al. 2020.
    """
    rows = fill_unreached(trajectory)
    first = rows.loss[0]
    rounding = 4 * jnp.finfo(first.dtype).eps * first
    above = rows.loss - jax.lax.cummin(rows.loss)
    highest = jnp.argmax(above)
    return Catapult(
        climb=above[highest] / jnp.where(first > 0, first, 1),
        step=rows.ts[highest],
        rises=jnp.sum(rows.loss[1:] > rows.loss[:-1] + rounding),
    )
