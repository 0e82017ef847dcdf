"""The linear rate of least squares with the metric as the samples see it."""

import jax.numpy as jnp

from ddln._numerics import product
from ddln._types import Loss, Scalar
from ddln.flows import Trajectory
from ddln.losses import LeastSquares
from ddln.parameterizations import AbstractParameterization
from ddln.theory._law import Sides, law
from ddln.theory._row_space import row_space
from ddln.theory.rates._integrals import integral
from ddln.theory.rates._linear_rate import exponential_bound, loss_gap


@law(
    source="the derivation in its documentation",
    relation="<=",
    axes=("time",),
    needs=(LeastSquares,),
)
def tangent_kernel_rate(trajectory: Trajectory, loss: Loss, constant: float = 4.0) -> Sides:
    """L(theta(t)) - L* <= exp(-4 scale int_0^t kappa(s) ds) (L(theta_0) - L*),
    kappa the smallest eigenvalue of X M X^T on the range of X.

    For n <= d and X of full row rank kappa is lambda_min(X M X^T). Derivation: with X = U S V^T (its
    singular values that are not zero) and z = U^T (X theta - y), L - L* = scale |z|^2 and
    g = 2 scale V S z, so d/dt (L - L*) = -4 scale^2 z^T K z <= -4 scale kappa (L - L*),
    K = S V^T M V S. As kappa >= lambda_min(M) mu / (2 scale), the bound is at least as sharp as
    `pl_rate_along_path`.

    Args:
        trajectory: a gradient flow of any parameterization.
        loss: the least squares loss it was integrated with.
        constant: the factor of the exponent; other values than 4 are for refutation.

    Returns:
        a check with axes (time,), shape [T]; inconclusive if the saved times determine the
        integral too badly: save more often, or pass `dense=True` to the flow.

    Raises:
        ValueError: if the loss is not `ddln.LeastSquares`.
    """
    if not isinstance(loss, LeastSquares):
        raise ValueError(
            f"Argument `loss` must be a `ddln.LeastSquares`, but it is a {type(loss).__name__}."
        )
    gap = loss_gap(trajectory, loss, None)
    rows = row_space(loss)
    singular = rows.singular
    root = singular[:, None] * rows.right

    def kappa(parameterization: AbstractParameterization) -> Scalar:
        if parameterization.separable:
            kernel = product(root * parameterization.metric_diagonal().reshape(1, -1), root.T)
        else:
            kernel = product(product(root, parameterization.metric()), root.T)
        # Directions outside the range of X are moved out of the way.
        kernel += jnp.diag(jnp.where(singular == 0, jnp.trace(kernel), 0))
        return jnp.maximum(jnp.linalg.eigvalsh(kernel)[0], 0)

    exponent = integral(trajectory, gap.rows, loss, kappa).times(constant * loss.scale)
    sides = exponential_bound(gap, exponent, {"X is not zero": singular[0] > 0})
    factor = {f"The factor is {constant:g}, not 4": jnp.array(constant != 4)}
    return sides._replace(remarks={**(sides.remarks or {}), **factor})
