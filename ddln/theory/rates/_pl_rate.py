"""Theorem 2: linear convergence under a Polyak-Lojasiewicz inequality."""

import jax.numpy as jnp

from ddln._types import Loss, Scalar
from ddln.flows import Trajectory
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal
from ddln.theory._law import Sides, law
from ddln.theory._metric import smallest_metric_eigenvalue
from ddln.theory.layers import deep_diagonal, one_smallest_layer, sigma
from ddln.theory.rates._integrals import Integral, integral
from ddln.theory.rates._linear_rate import exponential_bound, loss_gap, pl_constant


@law(
    source="Labarrière et al. 2024, Theorem 2, equation 14",
    relation="<=",
    axes=("time",),
    needs=(DeepDiagonal, LeastSquares),
)
def pl_rate(
    trajectory: Trajectory,
    loss: Loss,
    *,
    mu: float | Scalar | None = None,
    minimum: float | Scalar | None = None,
) -> Sides:
    """L(theta(t)) - L* <= exp(-2 sigma mu t) (L(theta_0) - L*), sigma as in `ddln.theory.sigma`.

    The bound is loose: `pl_rate_along_path` and `tangent_kernel_rate` are sharper.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`.
        loss: the loss it was integrated with.
        mu: the PL constant, 2 mu (L - L*) <= |grad L|^2; None takes that of `ddln.LeastSquares`.
        minimum: L*; None takes that of `ddln.LeastSquares`.

    Returns:
        a check with axes (time,), shape [T]. Its hypotheses are Assumption A and the PL inequality,
        the latter evaluated at the saved times.

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`, or `mu` or `minimum` is neither
            given nor known.
    """
    initial = deep_diagonal(trajectory.initial)
    gap = loss_gap(trajectory, loss, minimum)
    mu, hypotheses = pl_constant(trajectory, loss, gap, mu)
    exponent = Integral.exactly(2 * sigma(initial) * mu * gap.rows.ts)
    assumed = {"Assumption A": one_smallest_layer(initial)}
    return exponential_bound(gap, exponent, assumed | hypotheses)


@law(
    source="Labarrière et al. 2024, Corollary 1, there with c = 1",
    relation="<=",
    axes=("time",),
    needs=(DeepDiagonal, LeastSquares),
)
def pl_rate_zero_last(
    trajectory: Trajectory,
    loss: Loss,
    *,
    mu: float | Scalar | None = None,
    minimum: float | Scalar | None = None,
) -> Sides:
    """L(theta(t)) - L* <= exp(-2 c^2 (alpha^2 lambda)^(L-1) mu t) (L(theta_0) - L*),
    lambda = min_i ubar_i^2, from u^L = 0, u^j = alpha ubar.

    The bound of `pl_rate` for this start. By symmetry the zero may be in another layer at each
    coordinate, and the signs may differ.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`, such as from `DeepDiagonal.zero_last`.
        loss: the loss it was integrated with.
        mu: the PL constant; None takes that of `ddln.LeastSquares`.
        minimum: L*; None takes that of `ddln.LeastSquares`.

    Returns:
        a check with axes (time,), shape [T]. Its hypotheses are the form of the start and the PL
        inequality, the latter evaluated at the saved times.

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`, or `mu` or `minimum` is neither
            given nor known.
    """
    initial = deep_diagonal(trajectory.initial)
    gap = loss_gap(trajectory, loss, minimum)
    mu, hypotheses = pl_constant(trajectory, loss, gap, mu)
    sizes = jnp.sort(jnp.abs(initial.layers), axis=0)
    form = (sizes[0] == 0) & (sizes[1] > 0) & (sizes[1] == sizes[-1])
    smallest = jnp.min(jnp.square(sizes[1]))
    sigma = initial.factor**2 * smallest ** (initial.depth - 1)
    exponent = Integral.exactly(2 * sigma * mu * gap.rows.ts)
    assumed = {"one layer is zero and the others have one common size": jnp.all(form)}
    return exponential_bound(gap, exponent, assumed | hypotheses)


def separable(trajectory: Trajectory) -> bool:
    """True if the metric is diagonal, and its eigenvalues so cost nothing."""
    return trajectory.initial.separable


@law(
    source="Labarrière et al. 2024, proof of Theorem 2",
    relation="<=",
    axes=("time",),
    needs=(LeastSquares, separable),
)
def pl_rate_along_path(
    trajectory: Trajectory,
    loss: Loss,
    *,
    mu: float | Scalar | None = None,
    minimum: float | Scalar | None = None,
) -> Sides:
    """L(theta(t)) - L* <= exp(-2 mu int_0^t lambda_min(M(s)) ds) (L(theta_0) - L*).

    For every parameterization, since d/dt (L - L*) = -g^T M g <= -lambda_min(M) |g|^2. The integral
    is known as well as the saved times allow, and the check is inconclusive if that does not
    decide: save more often, or pass `dense=True` to the flow. The bound is trivial if M is
    singular, such as with fewer weights than coordinates.

    Args:
        trajectory: a gradient flow.
        loss: the loss it was integrated with.
        mu: the PL constant; None takes that of `ddln.LeastSquares`.
        minimum: L*; None takes that of `ddln.LeastSquares`.

    Returns:
        a check with axes (time,), shape [T]. Its hypothesis is the PL inequality, evaluated at the
        saved times.

    Raises:
        ValueError: if `mu` or `minimum` is neither given nor known.
    """
    gap = loss_gap(trajectory, loss, minimum)
    mu, hypotheses = pl_constant(trajectory, loss, gap, mu)
    exponent = integral(trajectory, gap.rows, loss, smallest_metric_eigenvalue).times(2 * mu)
    return exponential_bound(gap, exponent, hypotheses)
