"""Theorem 1: the loss decreases like 1/t."""

import jax.numpy as jnp

from ddln._types import Loss, Theta
from ddln.flows import Trajectory
from ddln.limits import limit
from ddln.losses import LeastSquares
from ddln.potentials._separable import AbstractSeparablePotential
from ddln.theory._check import Check
from ddln.theory._mirror import compare, mirror_flow


def bregman_rate(trajectory: Trajectory, loss: Loss, minimizer: Theta | None = None) -> Check:
    """L(theta(t)) - L(theta*) <= D_Q(theta*, theta_0) / t = Q(theta*) / t, for a convex loss.

    True of every theta* in the domain of Q; sharpest for the minimizer of L with the smallest Q,
    which is where the flow ends.

    Args:
        trajectory: a gradient flow of a parameterization that has a potential.
        loss: the loss it was integrated with.
        minimizer: theta*; None takes that of `ddln.LeastSquares` with the smallest Q, by
            `ddln.limit`, or the one of smallest norm where that would have to integrate the flow.

    Returns:
        a check with axes (time,), shape [T]. Its hypotheses are that the metric is regular at the
        start, that theta* is in the domain of Q, and that the loss is convex as seen from theta*,
        evaluated at the saved times.

    Raises:
        ValueError: if the flow is known to have no potential, or `minimizer` is neither given nor
            known.

    Source: Labarrière et al. 2024, Theorem 1, equation 8.
    """
    flow = mirror_flow(trajectory)
    if (
        minimizer is None
        and isinstance(loss, LeastSquares)
        and isinstance(flow.potential, AbstractSeparablePotential)
    ):
        # Where it is not reached, the bound holds of the point that was.
        minimizer = limit(trajectory.initial, loss, throw=False).theta
    other = compare(trajectory, loss, flow, minimizer)
    later = flow.rows.ts > 0
    ts = jnp.where(later, flow.rows.ts, 1)
    return Check(
        name="bregman_rate",
        source="Labarrière et al. 2024, Theorem 1, equation 8",
        statement="L(theta(t)) - L(theta*) <= D_Q(theta*, theta_0) / t",
        relation="<=",
        axes=("time",),
        lhs=other.gap,
        rhs=other.divergence / ts,
        tolerance=other.error + other.divergence_error / ts,
        compared=flow.rows.reached & later,
        hypotheses=other.hypotheses,
    )
