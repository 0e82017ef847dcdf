"""The linear rate with the metric as it is along the flow."""

from ddln._types import Loss, Scalar
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._integrals import integral
from ddln.theory._linear_rate import exponential_bound, loss_gap, pl_constant, pl_hypotheses
from ddln.theory._metric import smallest_metric_eigenvalue


def pl_rate_along_path(
    trajectory: Trajectory,
    loss: Loss,
    *,
    mu: float | Scalar | None = None,
    minimum: float | Scalar | None = None,
) -> Check:
    """L(theta(t)) - L* <= exp(-2 mu int_0^t lambda_min(M(s)) ds) (L(theta_0) - L*).

    For every parameterization, since d/dt (L - L*) = -g^T M g <= -lambda_min(M) |g|^2. The integral
    is known as well as the saved times allow, and the check is inconclusive where that does not
    decide: save more often, or pass `dense=True` to the flow. It is trivial where M is singular, as
    it is with fewer weights than coordinates.

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

    Source: the proof of Theorem 2 of Labarrière et al. 2024, without its last step.
    """
    gap = loss_gap(trajectory, loss, minimum)
    mu = pl_constant(trajectory, loss, mu)
    exponent = integral(trajectory, gap.rows, loss, smallest_metric_eigenvalue).times(2 * mu)
    return exponential_bound(
        "pl_rate_along_path",
        "Labarrière et al. 2024, proof of Theorem 2",
        "L(theta(t)) - L* <= exp(-2 mu int_0^t lambda_min(M(s)) ds) (L(theta_0) - L*)",
        gap,
        exponent,
        pl_hypotheses(gap, loss, mu),
    )
