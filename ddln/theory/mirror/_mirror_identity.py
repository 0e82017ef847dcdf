"""Theorem 1: the effective flow is a mirror flow, and minimizes its potential."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, Loss
from ddln.flows import Trajectory
from ddln.losses import AbstractPredictionLoss
from ddln.potentials import AbstractPotential, AbstractSeparablePotential, potential
from ddln.theory._errors import effective_error, integration_error
from ddln.theory._law import Sides, law
from ddln.theory._metric import smallest_metric_eigenvalue
from ddln.theory._row_space import projection, row_space
from ddln.theory._rows import Rows, fill_unreached


class MirrorFlow(eqx.Module):
    """A trajectory with the potential of its start.

    Attributes:
        potential: Q.
        rows: the rows of the trajectory.
        step_error: hess Q times the error of theta, the error that the steps of the solver add up
            to in grad Q, shape [T, *theta].
        hypotheses: the regularity of the metric at the start, without which there is no potential.
    """

    potential: AbstractPotential
    rows: Rows
    step_error: Float[Array, "T *theta"]
    hypotheses: dict[str, Bool[Array, ""]]

    def mirror_map(self) -> Float[Array, "T D"]:
        """grad Q(theta(t))."""
        return _flat(jax.vmap(self.potential.mirror_map)(self.rows.theta))

    def mirror_error(self, trajectory: Trajectory) -> Float[Array, "T D"]:
        """The numerical error of grad Q(theta(t)) - xi(t)."""
        largest = jnp.max(self.step_error, axis=0, keepdims=True)
        return _flat(largest + integration_error(trajectory, self.rows.dual))


def mirror_flow(trajectory: Trajectory) -> MirrorFlow:
    """The trajectory with the potential of its start, and the errors of both.

    Raises:
        ValueError: if the parameterization is known to have no potential.
    """
    rows = fill_unreached(trajectory)
    potential_ = potential(trajectory.initial)
    hessian = jax.vmap(potential_.hessian_diagonal)(rows.theta)
    # Infinite at coordinates that do not move; these have no error either.
    finite = jnp.isfinite(hessian)
    error = jnp.where(finite, jnp.where(finite, hessian, 0) * effective_error(trajectory, rows), 0)
    regular = smallest_metric_eigenvalue(trajectory.initial) > 0
    return MirrorFlow(potential_, rows, error, {"the metric is regular at the start": regular})


def closed_potential(trajectory: Trajectory) -> bool:
    """True if the start has a potential in closed form."""
    # Abstract evaluation, since only the type of the potential is needed.
    return trajectory.initial.separable and isinstance(
        eqx.filter_eval_shape(potential, trajectory.initial), AbstractSeparablePotential
    )


@law(
    source="Labarrière et al. 2024, Theorem 1; Li, Wang, Lee and Arora 2022, Theorem 4.9",
    relation="==",
    axes=("time", "coordinate"),
    needs=(closed_potential,),
)
def mirror_identity(trajectory: Trajectory, loss: Loss) -> Sides:
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
    """
    flow = mirror_flow(trajectory)
    return Sides(
        lhs=flow.mirror_map(),
        rhs=_flat(flow.rows.dual),
        tolerance=flow.mirror_error(trajectory),
        compared=flow.rows.reached[:, None],
        hypotheses=flow.hypotheses,
    )


@law(
    source="Labarrière et al. 2024, Theorem 1, with grad L in the range of X^T",
    relation="==",
    axes=("time", "coordinate"),
    needs=(closed_potential, AbstractPredictionLoss),
)
def mirror_optimality(trajectory: Trajectory, loss: Loss) -> Sides:
    """theta(t) minimizes Q among all theta with the same predictions:
    grad Q(theta(t)) = P grad Q(theta(t)), P the projection on the range of X^T.

    These are the KKT conditions of theta(t) = argmin {Q(theta) : X theta = X theta(t)}, sufficient
    because Q is convex. If the flow converges to X theta = y, its limit is hence the interpolating
    point of smallest Q.

    Args:
        trajectory: a gradient flow of a parameterization that has a potential.
        loss: the loss of linear predictions that it was integrated with.

    Returns:
        a check with axes (time, coordinate), shape [T, D]. Its hypothesis is that the metric is
        regular at the start.

    Raises:
        ValueError: if the loss is not a `ddln.AbstractPredictionLoss`, or the flow is known to have
            no potential.
    """
    rows = row_space(loss)
    flow = mirror_flow(trajectory)
    gradient = flow.mirror_map()
    projected, error = projection(gradient, flow.mirror_error(trajectory), rows)
    compared = flow.rows.reached[:, None]
    return Sides(gradient, projected, error, compared, flow.hypotheses)


def _flat(values: Float[Array, "T *theta"]) -> Float[Array, "T D"]:
    return values.reshape(values.shape[0], -1)
