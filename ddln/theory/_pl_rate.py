"""Theorem 2: linear convergence under a Polyak-Lojasiewicz inequality."""

from ddln._types import Loss, Scalar
from ddln.flows import Trajectory
from ddln.theory._assumption_a import one_smallest_layer
from ddln.theory._check import Check
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._integrals import Integral
from ddln.theory._linear_rate import exponential_bound, loss_gap, pl_constant, pl_hypotheses
from ddln.theory._sigma import sigma


def pl_rate(
    trajectory: Trajectory,
    loss: Loss,
    *,
    mu: float | Scalar | None = None,
    minimum: float | Scalar | None = None,
) -> Check:
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

    Source: Labarrière et al. 2024, Theorem 2, equation 14.
    """
    initial = deep_diagonal(trajectory.initial)
    gap = loss_gap(trajectory, loss, minimum)
    mu = pl_constant(trajectory, loss, mu)
    exponent = 2 * sigma(initial) * mu * gap.rows.ts
    return exponential_bound(
        "pl_rate",
        "Labarrière et al. 2024, Theorem 2, equation 14",
        "L(theta(t)) - L* <= exp(-2 sigma mu t) (L(theta_0) - L*)",
        gap,
        Integral.exactly(exponent),
        {"Assumption A": one_smallest_layer(initial)} | pl_hypotheses(gap, loss, mu),
    )
