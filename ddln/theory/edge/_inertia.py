"""The number of eigenvalues of the Hessian below a shift."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import twice_differentiable
from ddln._types import Array, Float, Int, Loss
from ddln._validation import require_positive, require_real
from ddln.engine.internal import check_model
from ddln.parameterizations import AbstractParameterization
from ddln.theory.edge._hessian import AbstractHessian, RitzHessian
from ddln.theory.edge._separable_hessian import SeparableHessian, fits


class HessianInertia(eqx.Module):
    """Numbers of eigenvalues of a Hessian.

    Attributes:
        below: the number of eigenvalues that are below the shift for certain, of the shape of the shift.
        undecided: the number of eigenvalues too close to the shift to tell, of the same shape.
    """

    below: Int[Array, "..."]
    undecided: Int[Array, "..."]


def hessian_inertia(
    parameterization: AbstractParameterization,
    loss: Loss,
    shift: Any = 0.0,
    *,
    tolerance: float | Float[Array, ""] | None = None,
    iterations: int = 128,
) -> HessianInertia:
    """The number of eigenvalues of the Hessian of L(h(w)) in the weights below a shift s.

    For a separable map and a `ddln.AbstractPredictionLoss` the Hessian is H = B + A^T S A: B block diagonal,
    A = |curvature|^(1/2) X J, S the signs of the curvature. By Haynsworth's formula

        #{eig(H) < s} = #{eig(B) < s} + n_-(-S - A (B - s)^-1 A^T) - #{S > 0},

    with n_- the number of negative eigenvalues, a matrix of min(n, D) rows and not of P. It is evaluated at
    s - tolerance / 2 and s + tolerance / 2, so that every eigenvalue farther from s than the tolerance is
    decided, and one within it is not guessed; what rounding leaves open is undecided too. Shifts that
    are eigenvalues of B are no exception. The number of negative eigenvalues (s = 0) is the index of a
    saddle; differences of `below` at a grid of shifts are the spectral density.

    For other maps and losses H is a dense matrix up to P = `iterations`, and beyond it the Ritz values of a
    Krylov space bound the numbers from both sides: `undecided` is what they leave open. For `jax.jit` and
    `jax.vmap`.

    Example:
        >>> ddln.theory.hessian_inertia(network, loss, jnp.linspace(-1.0, 10.0, 100)).below

    Args:
        parameterization: the weights; of a trajectory, under `jax.vmap`.
        loss: L(theta), twice differentiable.
        shift: s, a number or an array.
        tolerance: half the width of the interval around s that is left undecided; None takes the
            square root of the unit of rounding times a bound of |H|.
        iterations: the largest dimension of the Krylov space.

    Raises:
        ValueError: if the tolerance is not positive, a shift is no real number, `iterations` < 1, or
            the loss has no second derivatives.

    Source: Haynsworth 1968.
    """
    require_real("shift", shift)
    if tolerance is not None:
        require_positive("tolerance", tolerance)
    check_model(parameterization, loss)
    check_iterations(iterations)
    with twice_differentiable():
        return _inertia(parameterization, loss, shift, tolerance, iterations)


@eqx.filter_jit
def _inertia(parameterization, loss, shift, tolerance, iterations: int) -> HessianInertia:
    hessian = hessian_of(parameterization, loss, iterations)
    dtype = hessian.bound.dtype
    shifts = jnp.asarray(shift, dtype)
    width = half_width(hessian) if tolerance is None else jnp.asarray(tolerance, dtype)
    below, undecided = jax.lax.map(lambda one: count(hessian, one, width), shifts.reshape(-1))
    return HessianInertia(below.reshape(shifts.shape), undecided.reshape(shifts.shape))


def check_iterations(iterations: int) -> None:
    """Check the largest dimension of a Krylov space.

    Raises:
        ValueError: if it is less than 1.
    """
    if iterations < 1:
        raise ValueError(f"Argument `iterations` must be at least 1, but it is {iterations}.")


def hessian_of(
    parameterization: AbstractParameterization, loss: Loss, iterations: int
) -> AbstractHessian:
    """The Hessian, by its structure if it has one."""
    if fits(parameterization, loss):
        return SeparableHessian.of(parameterization, loss)  # pyright: ignore[reportArgumentType]
    return RitzHessian.of(parameterization, loss, iterations)


def half_width(hessian: AbstractHessian) -> Float[Array, ""]:
    """Half the width of what is left undecided, unless a tolerance is given."""
    return float(jnp.finfo(hessian.bound.dtype).eps) ** 0.5 * hessian.bound


def count(
    hessian: AbstractHessian, shift: Float[Array, ""], width: Float[Array, ""]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """The numbers of eigenvalues below a shift, and within a width of it; all are undecided if H is NaN."""
    sides = jnp.stack([shift - width / 2, shift + width / 2])
    least, most = jax.lax.map(hessian.counts, sides)
    fine = jnp.isfinite(hessian.bound) & jnp.isfinite(shift)
    below = jnp.where(fine, least[0], 0)
    return below, jnp.where(fine, most[1] - below, hessian.size)
