"""What the statements about the mirror flow have in common."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, Loss, Scalar, Theta
from ddln.flows import Trajectory
from ddln.losses import LeastSquares, loss_gradient
from ddln.potentials import AbstractPotential, potential
from ddln.theory._errors import effective_error, integration_error, loss_error, rounding
from ddln.theory._metric import smallest_metric_eigenvalue
from ddln.theory._path import Path, path


class MirrorFlow(eqx.Module):
    """A trajectory with the potential of its start.

    Attributes:
        potential: Q.
        rows: the rows of the trajectory.
        step_error: hess Q times the error of theta, the largest over time, shape [*theta]: what the
            steps of the solver add up to in grad Q.
        hypotheses: that the flow has a potential.
    """

    potential: AbstractPotential
    rows: Path
    step_error: Float[Array, "T *theta"]
    hypotheses: dict[str, Bool[Array, ""]]

    def mirror_map(self) -> Float[Array, "T *theta"]:
        """grad Q(theta(t))."""
        return jax.vmap(self.potential.mirror_map)(self.rows.theta)

    def mirror_error(self, trajectory: Trajectory) -> Float[Array, "T *theta"]:
        """The numerical error of grad Q(theta(t)) - xi(t)."""
        largest = jnp.max(self.step_error, axis=0, keepdims=True)
        return largest + integration_error(trajectory, self.rows.dual)


def mirror_flow(trajectory: Trajectory) -> MirrorFlow:
    """The potential and the errors in it.

    Raises:
        ValueError: if the parameterization is known to have none.
    """
    rows = path(trajectory)
    potential_ = potential(trajectory.initial)
    hessian = jax.vmap(potential_.hessian_diagonal)(rows.theta)
    # Infinite where a coordinate does not move; then there is no error either.
    finite = jnp.isfinite(hessian)
    error = jnp.where(finite, jnp.where(finite, hessian, 0) * effective_error(trajectory, rows), 0)
    regular = smallest_metric_eigenvalue(trajectory.initial) > 0
    return MirrorFlow(potential_, rows, error, {"the metric is regular at the start": regular})


class Comparison(eqx.Module):
    """A point that a mirror flow is compared with.

    Attributes:
        point: theta*, moved to the start where it is not in the domain of Q.
        gap: L(theta(t)) - L(theta*), shape [T].
        start_gap: L(theta_0) - L(theta*).
        error: the numerical error of the gap, shape [T].
        divergence: Q(theta*) = D_Q(theta*, theta_0).
        divergence_error: what the steps of the solver add up to in D_Q(theta*, theta(t)).
        hypotheses: that Q is finite at theta*, and that the loss is convex as seen from it.
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
    """Compares a flow with a point, by default the minimizer of least squares.

    Raises:
        ValueError: if the minimizer is neither given nor known.
    """
    if minimizer is None and not isinstance(loss, LeastSquares):
        raise ValueError(
            f"Argument `minimizer` must be given for {type(loss).__name__}: "
            "only `ddln.LeastSquares` knows one."
        )
    point = loss.minimizer if minimizer is None else minimizer
    inside = flow.potential.in_domain(point)
    point = jnp.where(inside, point, trajectory.initial.effective())
    rows = flow.rows
    error = loss_error(trajectory, rows, loss) + rounding(loss(point))
    gap = rows.loss - loss(point)
    away = point[None] - rows.theta
    slopes = jax.vmap(lambda theta: loss_gradient(loss, theta))(rows.theta)
    descents = _sum(slopes * away)
    convex = gap + descents <= error + rounding(_sum(jnp.abs(slopes * away)))
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


def _sum(values: Float[Array, "T *theta"]) -> Float[Array, " T"]:
    return jnp.sum(values.reshape(values.shape[0], -1), axis=1)
