"""Theorem 1: the loss decreases like 1/t, by a Bregman divergence as Lyapunov function."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, Loss, Scalar, Theta
from ddln.flows import Trajectory
from ddln.limits import limit
from ddln.losses import LeastSquares
from ddln.potentials import AbstractSeparablePotential
from ddln.theory._errors import loss_error, loss_gradients, rounding
from ddln.theory._law import Sides, law
from ddln.theory.mirror._mirror_identity import MirrorFlow, closed_potential, mirror_flow
from ddln.theory.rates import of_least_squares


class Comparison(eqx.Module):
    """A mirror flow compared with a point.

    Attributes:
        point: theta*, moved to the start if it is not in the domain of Q.
        gap: L(theta(t)) - L(theta*), shape [T].
        start_gap: L(theta_0) - L(theta*).
        error: the numerical error of the gap, shape [T].
        divergence: Q(theta*) = D_Q(theta*, theta_0).
        divergence_error: the error of D_Q(theta*, theta(t)) that the steps of the solver add up to.
        hypotheses: the finiteness of Q at theta*, and the convexity of the loss as seen from it.
    """

    point: Theta
    gap: Float[Array, " T"]
    start_gap: Scalar
    error: Float[Array, " T"]
    divergence: Scalar
    divergence_error: Scalar
    hypotheses: dict[str, Bool[Array, ""]]


def compare(
    trajectory: Trajectory, loss: Loss, flow: MirrorFlow, minimizer: Theta | None
) -> Comparison:
    """Compare a flow with a point, by default the minimizer of least squares.

    Raises:
        ValueError: if the minimizer is neither given nor known.
    """
    point = of_least_squares("minimizer", minimizer, loss, "minimizer")
    inside = flow.potential.in_domain(point)
    point = jnp.where(inside, point, trajectory.initial.effective())
    rows = flow.rows
    error = loss_error(trajectory, rows, loss) + rounding(loss(point))
    gap = rows.loss - loss(point)
    away = point[None] - rows.theta
    gradients = loss_gradients(loss, rows)
    descents = _sum(gradients * away)
    convex = gap + descents <= error + rounding(_sum(jnp.abs(gradients * away)))
    return Comparison(
        point=point,
        gap=gap,
        start_gap=loss(trajectory.initial.effective()) - loss(point),
        error=error,
        divergence=flow.potential.value(point),
        divergence_error=jnp.max(_sum(jnp.abs(away) * flow.step_error)),
        hypotheses=flow.hypotheses
        | {
            "theta* is in the domain of the potential": jnp.all(inside),
            "L(theta) + <grad L(theta), theta* - theta> <= L(theta*) along the flow": jnp.all(
                convex | ~rows.reached
            ),
        },
    )


@law(
    source="Labarrière et al. 2024, Theorem 1, equation 8",
    relation="<=",
    axes=("time",),
    needs=(closed_potential, LeastSquares),
    # The minimizer of smallest norm, since the one of smallest Q would take a limit.
    arguments=lambda trajectory, loss: (trajectory, loss, loss.minimizer),
)
def bregman_rate(trajectory: Trajectory, loss: Loss, minimizer: Theta | None = None) -> Sides:
    """L(theta(t)) - L(theta*) <= D_Q(theta*, theta_0) / t = Q(theta*) / t, for a convex loss.

    True of every theta* in the domain of Q; sharpest for the minimizer of L with the smallest Q,
    which is the end of the flow.

    Args:
        trajectory: a gradient flow of a parameterization that has a potential.
        loss: the loss it was integrated with.
        minimizer: theta*; None takes that of `ddln.LeastSquares` with the smallest Q, by
            `ddln.limit`, or that of smallest norm if the limit would have to integrate the flow.

    Returns:
        a check with axes (time,), shape [T]. Its hypotheses are that the metric is regular at the
        start, that theta* is in the domain of Q, and that the loss is convex as seen from theta*,
        evaluated at the saved times.

    Raises:
        ValueError: if the flow is known to have no potential, or `minimizer` is neither given nor
            known.
    """
    flow = mirror_flow(trajectory)
    if (
        minimizer is None
        and isinstance(loss, LeastSquares)
        and isinstance(flow.potential, AbstractSeparablePotential)
    ):
        # The bound holds of every point, and so also of one at which the limit has not converged.
        minimizer = limit(trajectory.initial, loss, throw=False).theta
    other = compare(trajectory, loss, flow, minimizer)
    later = flow.rows.ts > 0
    ts = jnp.where(later, flow.rows.ts, 1)
    return Sides(
        lhs=other.gap,
        rhs=other.divergence / ts,
        tolerance=other.error + other.divergence_error / ts,
        compared=flow.rows.reached & later,
        hypotheses=other.hypotheses,
    )


@law(source="Labarrière et al. 2024, proof of Theorem 1", relation="<=", axes=("time",))
def bregman_decrease(trajectory: Trajectory, loss: Loss, minimizer: Theta | None = None) -> Sides:
    """D_Q(theta*, theta(t)) + int_0^t (L(theta(s)) - L(theta*)) ds <= D_Q(theta*, theta_0).

    For a convex loss: d/dt D_Q(theta*, theta) = <grad L, theta* - theta> <= L(theta*) - L(theta).
    `bregman_rate` follows, the loss being monotone. As the loss is monotone, the integral lies
    between the lower and the upper sum over the saved times; the left side takes the upper one, and
    the difference is part of the numerical error.

    Args:
        trajectory: a gradient flow of a parameterization that has a potential.
        loss: the loss it was integrated with.
        minimizer: theta*; None takes that of `ddln.LeastSquares`.

    Returns:
        a check with axes (time,), shape [T], with the hypotheses of `bregman_rate`.

    Raises:
        ValueError: if the flow is known to have no potential, or `minimizer` is neither given nor
            known.
    """
    flow = mirror_flow(trajectory)
    other = compare(trajectory, loss, flow, minimizer)
    gaps = jnp.concatenate([other.start_gap[None], other.gap])
    lengths = jnp.diff(flow.rows.ts, prepend=jnp.zeros_like(flow.rows.ts[:1]))

    def accumulate(heights: Float[Array, " T"]) -> Float[Array, " T"]:
        return jnp.cumsum(lengths * heights)

    upper, lower = accumulate(gaps[:-1]), accumulate(gaps[1:])
    divergence = jax.vmap(lambda theta: flow.potential.bregman(other.point, theta))
    return Sides(
        lhs=divergence(flow.rows.theta) + upper,
        rhs=other.divergence[None],
        tolerance=other.divergence_error + jnp.abs(upper - lower) + accumulate(other.error),
        compared=flow.rows.reached,
        hypotheses=other.hypotheses,
    )


def _sum(values: Float[Array, "T *theta"]) -> Float[Array, " T"]:
    return jnp.sum(values.reshape(values.shape[0], -1), axis=1)
