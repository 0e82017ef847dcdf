"""Extreme eigenvalues and eigenvectors of the Hessian."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import first_order, product, pull_back, twice_differentiable
from ddln._types import Array, Bool, Float, Int, Loss
from ddln.engine.internal import check_model
from ddln.losses import loss_gradient
from ddln.parameterizations import AbstractParameterization
from ddln.theory.edge._hessian import hessian_product
from ddln.theory.edge._inertia import check_iterations, count, half_width, hessian_of


class HessianSpectrum(eqx.Module):
    """The two ends of the spectrum of a Hessian H, and the signs of all of it.

    Attributes:
        values: the k lowest eigenvalues, then the k highest, all ascending, shape [2k].
        vectors: their eigenvectors: the parameterization with its weights replaced, each with a
            leading axis 2k; of unit length over all weights.
        residuals: |H v - value v|, which bounds the error of each value, shape [2k].
        negative: the index: the number of eigenvalues below zero for certain.
        undecided: the number of eigenvalues too close to zero to tell their sign.
        gradient_norm: |grad_w L|, zero at a stationary point.
    """

    values: Float[Array, " K"]
    vectors: AbstractParameterization
    residuals: Float[Array, " K"]
    negative: Int[Array, ""]
    undecided: Int[Array, ""]
    gradient_norm: Float[Array, ""]

    def strict_saddle(self, tolerance: float | Float[Array, ""]) -> Bool[Array, "..."]:
        """Test whether |grad_w L| <= tolerance with an eigenvalue below zero for certain."""
        return (self.gradient_norm <= tolerance) & (self.negative > 0)


def hessian_spectrum(
    parameterization: AbstractParameterization,
    loss: Loss,
    k: int = 1,
    *,
    iterations: int = 128,
) -> HessianSpectrum:
    """The k lowest and the k highest eigenvalues of the Hessian of L(h(w)) in the weights, with vectors.

    For a separable map and a `ddln.AbstractPredictionLoss`, eigenvalue number j is bracketed by the
    counts of `hessian_inertia`, and found by safeguarded Newton steps on an eigenvalue of its matrix of
    about min(n, D) rows; multiple eigenvalues are found as often as they occur. For other maps and losses
    the pairs are those of the dense matrix up to P = `iterations`, and beyond it Ritz pairs of Lanczos'
    method, whose residuals say how good they are; it sees one vector of each multiple eigenvalue.

    The values are differentiable where they are simple, as Rayleigh quotients of fixed vectors; all else
    is constant to differentiation; second derivatives are an error. For `jax.jit` and `jax.vmap`, also over
    a trajectory's `parameterization` and in `observe` of a sweep.

    Example:
        >>> spectrum = ddln.theory.hessian_spectrum(run.final, loss)
        >>> spectrum.values[-1] * 0.1, spectrum.negative

    Args:
        parameterization: the weights.
        loss: L(theta), twice differentiable.
        k: the number of eigenvalues of each end, 1 to P; of more than P / 2 some are in both.
        iterations: the largest dimension of the Krylov space, at least k.

    Raises:
        ValueError: if k or `iterations` is out of its range, the loss has no second derivatives, or the
            values are differentiated twice.

    Source: Lanczos 1950 for maps without structure.
    """
    check_model(parameterization, loss)
    check_iterations(iterations)
    weights = jax.tree.leaves(eqx.filter(parameterization, eqx.is_inexact_array))
    most = min(iterations, sum(leaf.size for leaf in weights))
    if not 1 <= k <= most:
        raise ValueError(
            f"Argument `k` must be from 1 to {most}, the number of weights or `iterations`, but it is {k}."
        )
    with twice_differentiable():
        return _spectrum(parameterization, loss, k, iterations)


@eqx.filter_jit
def _spectrum(parameterization, loss, k: int, iterations: int) -> HessianSpectrum:
    parameterization, loss = first_order("hessian_spectrum", (parameterization, loss))
    _, unravel, multiply = hessian_product(parameterization, loss)
    fixed = jax.lax.stop_gradient((parameterization, loss))
    hessian = hessian_of(*fixed, iterations)
    negative, undecided = count(hessian, jnp.zeros_like(hessian.bound), half_width(hessian))
    fixed_product = hessian_product(*fixed)[2]
    values, spans = hessian.extremes(k)
    vectors = jax.vmap(lambda end: _rayleigh_ritz(fixed_product, end))(spans.reshape(2, k, -1))
    vectors = vectors.reshape(2 * k, -1)
    images = jax.vmap(multiply)(vectors)
    slope = loss_gradient(fixed[1], fixed[0].effective())
    quotients = jnp.sum(vectors * images, axis=1)
    # The values by counting, with the derivatives of the Rayleigh quotients.
    values = values + (quotients - jax.lax.stop_gradient(quotients))
    residuals = jnp.linalg.norm(images - values[:, None] * vectors, axis=1)
    _, static = eqx.partition(parameterization, eqx.is_inexact_array)
    return HessianSpectrum(
        values=values,
        vectors=eqx.combine(jax.vmap(unravel)(vectors), static),
        residuals=jax.lax.stop_gradient(residuals),
        negative=negative,
        undecided=undecided,
        gradient_norm=jnp.linalg.norm(ravel_pytree(pull_back(fixed[0], slope))[0]),
    )


def _rayleigh_ritz(
    multiply: Callable[[Array], Array], vectors: Float[Array, "k P"]
) -> Float[Array, "k P"]:
    """The Ritz vectors in the span of k vectors, of ascending values."""
    basis = jnp.linalg.qr(vectors.T)[0].T
    inner = product(jax.vmap(multiply)(basis), basis.T)
    return product(jnp.linalg.eigh((inner + inner.T) / 2)[1].T, basis)
