"""Theorem 1: the effective flow is a mirror flow."""

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._mirror import mirror_flow


def mirror_identity(trajectory: Trajectory, loss: Loss) -> Check:
    """grad Q(theta(t)) = xi(t) = -int_0^t grad L(theta(s)) ds, Q the potential of the start.

    The left side is computed from theta alone, the right side was integrated along with the flow.
    Numerical error: every step of the solver moves grad Q by hess Q times its error in theta.

    Args:
        trajectory: a gradient flow of a parameterization that has a potential.
        loss: any loss; it enters through the dual.

    Returns:
        a check with axes (time, coordinate), shape [T, D]. Its hypothesis is that the metric is
        regular at the start: no coordinate of a deep diagonal network has two layers at zero. Ties
        are allowed: Q then lives on the orthant of theta_0.

    Raises:
        ValueError: if the flow is known to have no potential.

    Source: Labarrière et al. 2024, Theorem 1; Li, Wang, Lee and Arora 2022, Theorem 4.9.
    """
    flow = mirror_flow(trajectory)
    times = flow.rows.ts.shape[0]
    return Check(
        name="mirror_identity",
        source="Labarrière et al. 2024, Theorem 1",
        statement="grad Q(theta(t)) = -int_0^t grad L(theta(s)) ds, Q the potential of the start",
        relation="==",
        axes=("time", "coordinate"),
        lhs=flow.mirror_map().reshape(times, -1),
        rhs=flow.rows.dual.reshape(times, -1),
        tolerance=flow.mirror_error(trajectory).reshape(times, -1),
        compared=flow.rows.reached[:, None],
        hypotheses=flow.hypotheses,
    )
