"""Mirror flow of any potential and loss, without weights."""

import abc
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._results import RESULTS, is_okay
from ddln._types import Array, Bool, Float, Loss, Theta
from ddln._validation import require_option
from ddln.flows._adjoint import after, before, check_adjoint
from ddln.flows._arguments import check_loss, check_times, check_tolerances
from ddln.flows._save_times import SaveTimes, saved_rows
from ddln.flows._setup import DENSE_JACOBIAN_LIMIT, STATS
from ddln.flows._state import loss_gradient
from ddln.flows._step_control import StepControl
from ddln.losses import AbstractPredictionLoss
from ddln.potentials import AbstractPotential
from ddln.potentials._domain import only_inside
from ddln.potentials._separable import AbstractSeparablePotential
from ddln.solvers import AbstractStructuredField, DiagonalPlusLowRank, Rodas5P


class MirrorTrajectory(eqx.Module):
    """A mirror flow, saved at T times.

    Rows that were not reached, because the solve failed, are NaN, and their time is inf; with
    `ts=None` the one row is the last state that was reached, at its time.

    Attributes:
        potential: Q, normalised at the start.
        ts: the saved times, shape [T].
        theta: theta(t), shape [T, *theta].
        loss: L(theta), shape [T].
        dual: xi(t) = -integral_0^t grad L(theta(s)) ds, shape [T, *theta].
        result: a `ddln.RESULTS` code.
        stats: numbers of steps: `num_steps`, `num_accepted_steps`, `num_rejected_steps`.
        method: the coordinates and the solver that were used.
        rtol: the relative tolerance of the solve.
        atol: the absolute tolerance of the solve.
    """

    potential: AbstractPotential
    ts: Float[Array, " T"]
    theta: Float[Array, "T *theta"]
    loss: Float[Array, " T"]
    dual: Float[Array, "T *theta"]
    result: RESULTS
    stats: dict[str, Array]
    rtol: Float[Array, ""]
    atol: Float[Array, ""]
    method: str = eqx.field(static=True)


def mirror_flow(
    potential: AbstractPotential,
    loss: Loss,
    t1: float | Float[Array, ""],
    *,
    ts: Any = None,
    coordinates: str = "dual",
    solver: diffrax.AbstractSolver | None = None,
    rtol: float | Float[Array, ""] = 1e-6,
    atol: float | Float[Array, ""] = 1e-9,
    max_steps: int = 16384,
    adjoint: diffrax.AbstractAdjoint | None = None,
    throw: bool = True,
) -> MirrorTrajectory:
    """Integrates the mirror flow d/dt grad Q(theta) = -grad L(theta) from time 0 to t1.

    It starts at theta_0, where Q and its gradient vanish. With Q = `potential(parameterization)` it
    has the theta(t) of `gradient_flow(parameterization, loss, t1)`, and needs no weights.
    Differentiable in the arrays of the potential and of the loss, in `t1` and in `ts`; to be used
    under `jax.jit` and `jax.vmap`.

    Example:
        >>> network = ddln.DeepDiagonal.random(jax.random.key(0), depth=3, dim=50, scale=0.1)
        >>> trajectory = ddln.mirror_flow(ddln.potential(network), ddln.LeastSquares(X, y), 100.0)
        >>> trajectory.theta[-1]

    Args:
        potential: Q; `ddln.potential` gives that of a parameterization.
        loss: L(theta), a `ddln` loss or any function of theta to a scalar.
        t1: the end of the integration, positive and finite.
        ts: the times to save at, increasing, within [0, t1], shape [T]; None saves the end only.
        coordinates: "dual" integrates xi' = -grad L(grad Q*(xi)); "primal" integrates
            theta' = -(hess Q)^-1 grad L(theta), and xi along with it. The dual takes fewer steps and
            resolves theta close to the ends of its domain, where "primal" can fail; "primal"
            inverts no mirror map, so that its steps cost less, and resolves theta where xi is within
            rounding of an end of its range (deep networks from a tiny start).
        solver: any diffrax solver. None takes Rodas5P, with the structured Jacobian for separable
            potentials of a vector and a `ddln.AbstractPredictionLoss`, else with a dense one up to
            200 unknowns, and beyond them Tsit5. `MirrorTrajectory.method` names the choice.
        rtol: the relative tolerance, of theta or of xi.
        atol: the absolute tolerance, of theta or of xi, in its unit.
        max_steps: the most steps, accepted or not, before giving up.
        adjoint: how to differentiate: None is reverse mode with checkpoints
            (`diffrax.RecursiveCheckpointAdjoint`); pass `diffrax.ForwardMode()` for `jax.jvp`,
            `jax.jacfwd` and Hessians.
        throw: True raises if the solve fails, also under `jax.jit`; False leaves the reason in
            `MirrorTrajectory.result`, and no host callback in the program.

    Returns:
        The trajectory; `result` is `RESULTS.successful`, `max_steps_reached`,
        `nonfinite_initialization`, `nonfinite_initial_loss` or another code of diffrax.

    Raises:
        ValueError: for arguments that do not fit, before the integration.
        RuntimeError: if `throw=True` and the solve fails.

    Source: Labarrière et al. 2024, Theorem 1.
    """
    check_times(t1, ts)
    check_tolerances(rtol, atol, max_steps)
    check_adjoint(adjoint)
    if not isinstance(potential, AbstractPotential):
        raise ValueError(
            "Argument `potential` must be a `ddln.AbstractPotential`, "
            f"but it is a {type(potential).__name__}. `ddln.potential` makes one of a "
            "parameterization."
        )
    theta = eqx.filter_eval_shape(lambda q: q.start, potential)
    check_loss(loss, theta, "potential")
    require_option("coordinates", coordinates, ("dual", "primal"))
    space = Dual(potential) if coordinates == "dual" else Primal(potential)
    structured = (
        isinstance(potential, AbstractSeparablePotential)
        and isinstance(loss, AbstractPredictionLoss)
        and theta.ndim == 1
    )
    if solver is None:
        unknowns = theta.size * len(eqx.filter_eval_shape(lambda s: s.start(), space))
        stiff = structured or unknowns <= DENSE_JACOBIAN_LIMIT
        solver = Rodas5P() if stiff else diffrax.Tsit5()
    field = (StructuredField if structured else Field)(space, loss)
    times = jnp.asarray(t1, theta.dtype), None if ts is None else jnp.asarray(ts, theta.dtype)
    trajectory = _integrate(
        *before(adjoint, solver, (field, *times)),
        jnp.asarray(rtol, theta.dtype),
        jnp.asarray(atol, theta.dtype),
        solver,
        diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        max_steps=max_steps,
        method=f"{coordinates}, {type(solver).__name__}",
    )
    trajectory = after(adjoint, solver, trajectory)
    if throw:
        trajectory = trajectory.result.error_if(trajectory, ~is_okay(trajectory.result))
    return trajectory


class AbstractCoordinates(eqx.Module):
    """The unknowns of a mirror flow: a tuple, the first of which controls the steps."""

    potential: eqx.AbstractVar[AbstractPotential]

    @abc.abstractmethod
    def start(self) -> tuple[Theta, ...]:
        """The state at time 0."""

    @abc.abstractmethod
    def effective(self, state: tuple[Theta, ...]) -> Theta:
        """theta, with NaN at coordinates that are outside of the domain."""

    @abc.abstractmethod
    def velocity(self, theta: Theta, slope: Theta) -> tuple[Theta, ...]:
        """The time derivative of the state, slope = grad L(theta)."""

    @abc.abstractmethod
    def jacobian(
        self, theta: Theta, slope: Theta
    ) -> tuple[tuple[Theta, ...], tuple[Theta, ...], tuple[Theta, ...]]:
        """`diagonal`, `left` and `right` of `DiagonalPlusLowRank`, for a separable potential."""


class Dual(AbstractCoordinates):
    """xi' = -grad L(grad Q*(xi))."""

    potential: AbstractPotential

    def start(self):
        return (jnp.zeros_like(self.potential.start),)

    def effective(self, state):
        return self.potential.inverse_mirror_map(state[0])

    def velocity(self, theta, slope):
        return (-slope,)

    def jacobian(self, theta, slope):
        # A coordinate that has been rounded to an end of the domain does not move.
        inside = self.potential.in_domain(theta)
        metric = jnp.where(inside, 1 / self.potential.hessian_diagonal(theta), 0)
        return (jnp.zeros_like(theta),), (-jnp.ones_like(theta),), (metric,)


class Primal(AbstractCoordinates):
    """theta' = -(hess Q)^-1 grad L(theta), and the dual along with it."""

    potential: AbstractPotential

    def start(self):
        theta = self.potential.start
        return theta, jnp.zeros_like(theta)

    def effective(self, state):
        return only_inside(self.potential.in_domain(state[0]), state[0])

    def velocity(self, theta, slope):
        if isinstance(self.potential, AbstractSeparablePotential):
            return -slope / self.potential.hessian_diagonal(theta), -slope
        # (hess Q)^-1 = hess Q* = d theta / d xi.
        xi = self.potential.mirror_map(theta)
        return jax.jvp(self.potential.inverse_mirror_map, (xi,), (-slope,))[1], -slope

    def jacobian(self, theta, slope):
        one, zero = jnp.ones_like(theta), jnp.zeros_like(theta)
        metric, metric_slope = jax.jvp(
            lambda point: 1 / self.potential.hessian_diagonal(point), (theta,), (one,)
        )
        return (-metric_slope * slope, zero), (-metric, -one), (one, zero)


class Field(eqx.Module):
    """The vector field of the state."""

    space: AbstractCoordinates
    loss: Loss

    def at(self, state: tuple[Theta, ...]) -> tuple[Theta, Theta, Bool[Array, ""]]:
        """theta and grad L, those of the start where theta is outside of the domain, and whether
        it is inside.
        """
        theta = self.space.effective(state)
        inside = jnp.all(jnp.isfinite(theta))
        theta = jnp.where(inside, theta, self.space.potential.start)
        return theta, loss_gradient(self.loss, theta), inside

    def __call__(self, t, y, args):
        theta, slope, inside = self.at(y)
        velocity = self.space.velocity(theta, slope)
        # A velocity that no step size controller accepts. Not NaN, because times the cotangent zero
        # of a rejected step that is NaN.
        far = float(jnp.finfo(theta.dtype).max) ** 0.25
        return jax.tree.map(lambda leaf: jnp.where(inside, leaf, far), velocity)


class StructuredField(Field, AbstractStructuredField):
    """The same for a separable potential and a loss of linear predictions."""

    autonomous: ClassVar[bool] = True

    def jacobian(self, t, y, args):
        assert isinstance(self.loss, AbstractPredictionLoss)
        theta, slope, _ = self.at(y)
        diagonal, left, right = self.space.jacobian(theta, slope)
        return DiagonalPlusLowRank(
            diagonal, left, right, self.loss.design, self.loss.curvature(theta)
        )


class StayInside(diffrax.AbstractAdaptiveStepSizeController):
    """`StepControl` that rejects steps that end outside of the domain, from where there is no way back."""

    rtol: Array
    atol: Array
    field: Field

    @property
    def controller(self) -> StepControl:
        return StepControl(self.rtol, self.atol)

    @property
    def norm(self):
        return self.controller.norm

    def wrap(self, direction):
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        return self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        _, _, inside = self.field.at(y1_candidate)
        y_error = jax.tree.map(lambda leaf: jnp.where(inside, leaf, jnp.inf), y_error)
        return self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
        )


@eqx.filter_jit
def _integrate(
    field: Field,
    t1: Float[Array, ""],
    ts: Float[Array, " T"] | None,
    rtol: Float[Array, ""],
    atol: Float[Array, ""],
    solver: diffrax.AbstractSolver,
    adjoint: diffrax.AbstractAdjoint,
    *,
    max_steps: int,
    method: str,
) -> MirrorTrajectory:
    space, loss = field.space, field.loss
    start = space.start()
    startable, refusal = _startable(space.potential, loss)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver if ts is None else SaveTimes(solver, ts),
        jnp.zeros_like(t1),
        # A lane that cannot start runs for no time: it cannot disturb its neighbours.
        jnp.where(startable, t1, 0),
        None,
        start,
        saveat=diffrax.SaveAt(t1=True, solver_state=ts is not None),
        stepsize_controller=StayInside(rtol, atol, field),  # pyright: ignore[reportCallIssue]
        adjoint=adjoint,
        max_steps=max_steps,
        throw=False,
    )
    assert solution.ts is not None  # `SaveAt(t1=True)` saves it
    if ts is None:
        times, states, reached = solution.ts, solution.ys, startable[None]
    else:
        times, states = ts, saved_rows(solution)
        reached = startable & (ts <= solution.ts[-1])

    def blank(rows):
        mask = reached.reshape(reached.shape + (1,) * (rows.ndim - 1))
        return jnp.where(mask, rows, jnp.nan)

    assert states is not None
    # Rows to be blanked are computed from the start, so that no NaN enters a derivative.
    states = jax.tree.map(
        lambda rows, first: jnp.where(jnp.isnan(blank(rows)), first[None], rows), states, start
    )
    theta = jax.vmap(space.effective)(states)
    return MirrorTrajectory(
        potential=space.potential,
        ts=jnp.where(reached, times, jnp.inf),
        theta=blank(theta),
        loss=blank(jax.vmap(loss)(theta)),
        dual=blank(states[-1]),
        result=RESULTS.where(startable, RESULTS.promote(solution.result), refusal),
        stats={key: jnp.asarray(solution.stats[key]) for key in STATS},
        rtol=rtol,
        atol=atol,
        method=method,
    )


def _startable(potential: AbstractPotential, loss: Loss) -> tuple[Bool[Array, ""], RESULTS]:
    """Whether a flow can start, and the code if it cannot."""
    theta = potential.start
    finite_start = jnp.all(jnp.isfinite(theta))
    finite_loss = jnp.isfinite(loss(theta)) & jnp.all(jnp.isfinite(loss_gradient(loss, theta)))
    refusal = RESULTS.where(
        finite_start, RESULTS.nonfinite_initial_loss, RESULTS.nonfinite_initialization
    )
    return finite_start & finite_loss, refusal
