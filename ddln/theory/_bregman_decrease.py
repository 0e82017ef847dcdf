"""The Lyapunov function of a mirror flow."""

import jax
import jax.numpy as jnp

from ddln._types import Array, Float, Loss, Theta
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._mirror import compare, mirror_flow


def bregman_decrease(trajectory: Trajectory, loss: Loss, minimizer: Theta | None = None) -> Check:
    """D_Q(theta*, theta(t)) + int_0^t (L(theta(s)) - L(theta*)) ds <= D_Q(theta*, theta_0).

    For a convex loss: d/dt D_Q(theta*, theta) = <grad L, theta* - theta> <= L(theta*) - L(theta).
    `bregman_rate` follows, the loss being monotone. As it is monotone, the integral lies between
    the lower and the upper sum over the saved times; the left side takes the upper one, and the
    difference is part of the numerical error.

    Args:
        trajectory: a gradient flow of a parameterization that has a potential.
        loss: the loss it was integrated with.
        minimizer: theta*; None takes that of `ddln.LeastSquares`.

    Returns:
        a check with axes (time,), shape [T], with the hypotheses of `bregman_rate`.

    Raises:
        ValueError: if the flow is known to have no potential, or `minimizer` is neither given nor
            known.

    Source: the proof of Labarrière et al. 2024, Theorem 1, equation 8.
    """
    flow = mirror_flow(trajectory)
    other = compare(trajectory, loss, flow, minimizer)
    gaps = jnp.concatenate([other.start_gap[None], other.gap])
    lengths = jnp.diff(flow.rows.ts, prepend=jnp.zeros_like(flow.rows.ts[:1]))

    def accumulate(heights: Float[Array, " T"]) -> Float[Array, " T"]:
        return jnp.cumsum(lengths * heights)

    upper, lower = accumulate(gaps[:-1]), accumulate(gaps[1:])
    divergence = jax.vmap(lambda theta: flow.potential.bregman(other.point, theta))
    return Check(
        name="bregman_decrease",
        source="Labarrière et al. 2024, proof of Theorem 1",
        statement=(
            "D_Q(theta*, theta(t)) + int_0^t (L(theta(s)) - L(theta*)) ds <= D_Q(theta*, theta_0)"
        ),
        relation="<=",
        axes=("time",),
        lhs=divergence(flow.rows.theta) + upper,
        rhs=other.divergence[None],
        tolerance=other.divergence_error + jnp.abs(upper - lower) + accumulate(other.error),
        compared=flow.rows.reached,
        hypotheses=other.hypotheses,
    )
