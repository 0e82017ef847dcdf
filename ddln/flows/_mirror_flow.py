"""Mirror flow of any potential and loss, without weights."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._card import flow_card
from ddln._plot import figures
from ddln._results import RESULTS
from ddln._types import Array, Bool, Float, Loss, Theta
from ddln._validation import require_option
from ddln.engine import AbstractDynamics, Solve, integrate
from ddln.engine.internal import check_loss
from ddln.flows._gradient_flow import DENSE_JACOBIAN_LIMIT
from ddln.flows.states._mirror import AbstractMirrorStates, Dual, Primal
from ddln.losses import AbstractPredictionLoss, loss_gradient
from ddln.parameterizations import AbstractParameterization
from ddln.potentials import AbstractPotential, AbstractSeparablePotential
from ddln.potentials import potential as potential_of
from ddln.solvers import AbstractStructuredField, DiagonalPlusLowRank, Rodas5P


class MirrorTrajectory(eqx.Module):
    """A mirror flow, saved at T times.

    Rows that were not reached (after an event, or when the solve failed) are NaN, and their time is inf; with
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
    interpolation: diffrax.DenseInterpolation | None = None

    def evaluate(self, t: float | Float[Array, ""]) -> Theta:
        """theta at any time between 0 and the end, from the solver's dense output.

        Raises:
            ValueError: if the flow was not integrated with `dense=True`.
        """
        if self.interpolation is None:
            raise ValueError(
                "`MirrorTrajectory.evaluate` needs dense output. Pass `dense=True` to the flow."
            )
        coordinates = self.method.split(",")[0]
        return _states(self.potential, coordinates).effective(self.interpolation.evaluate(t))

    def plot(self, **options: Any) -> Any:
        """Draw the coefficients: the axes of `ddln.plots.coefficient_paths`, which takes the options."""
        return figures().coefficient_paths(self, **options)

    def _repr_html_(self) -> str | None:
        return flow_card(f"MirrorTrajectory of {type(self.potential).__name__}", self)


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
    event: Callable | None = None,
    dense: bool = False,
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
        adjoint: as in `ddln.gradient_flow`.
        event: stop early, as in `ddln.gradient_flow`; it is called with `ddln.Identity(theta)`.
        dense: whether to keep dense output for `MirrorTrajectory.evaluate`.
        throw: True raises if the solve fails, also under `jax.jit`; False leaves the reason in
            `MirrorTrajectory.result`, and no host callback in the program.

    Returns:
        The trajectory; `result` is `RESULTS.successful`, `event_occurred`, `max_steps_reached`,
        `nonfinite_initialization`, `nonfinite_initial_loss` or another code of diffrax.

    Raises:
        ValueError: for arguments that do not fit, before the integration.
        RuntimeError: if `throw=True` and the solve fails.

    Source: Labarrière et al. 2024, Theorem 1.
    """
    dynamics = MirrorDynamics(coordinates)
    solve = Solve(t1, ts, rtol, atol, solver, adjoint, event, max_steps, dense).checked()
    require_potential(potential)
    return integrate(dynamics, potential, loss, solve, throw=throw)


def require_potential(potential: Any) -> None:
    """Raises unless an argument is a potential."""
    if not isinstance(potential, AbstractPotential):
        raise ValueError(
            "Argument `potential` must be a `ddln.AbstractPotential`, "
            f"but it is a {type(potential).__name__}. `ddln.potential` makes one of a "
            "parameterization."
        )


class MirrorDynamics(AbstractDynamics):
    """Mirror flow d/dt grad Q(theta) = -grad L(theta).

    It starts from a potential Q, or from a parameterization, whose potential `ddln.potential` gives.

    Args:
        coordinates: "dual" or "primal", as in `ddln.mirror_flow`.
    """

    coordinates: str = eqx.field(static=True, default="dual")

    def __check_init__(self):
        require_option("coordinates", self.coordinates, ("dual", "primal"))

    def states(self, start, loss):
        if isinstance(start, AbstractParameterization):
            start = potential_of(start)
        require_potential(start)
        check_loss(loss, eqx.filter_eval_shape(lambda q: q.start, start), "potential")
        return _states(start, self.coordinates)

    def initial_state(self, states, loss):
        return states.start()

    def startable(self, states, loss):
        return mirror_startable(states.potential, loss)

    def field(self, states, loss):
        return (StructuredField if _is_structured(states, loss) else Field)(states, loss)

    def default_solver(self, states, loss, *, reverse):
        unknowns = sum(leaf.size for leaf in states.start())
        stiff = _is_structured(states, loss) or unknowns <= DENSE_JACOBIAN_LIMIT
        return Rodas5P() if stiff else diffrax.Tsit5()

    def inside(self, states):
        # The potential's domain does not depend on the loss.
        return lambda state: jnp.all(jnp.isfinite(states.effective(state)))

    def parameterization(self, states, state):
        return states.rebuild(state)

    def trajectory(self, states, loss, saved):
        theta = jax.vmap(states.effective)(saved.rows)
        return MirrorTrajectory(
            potential=states.potential,
            ts=saved.times,
            theta=saved.blank(theta),
            loss=saved.blank(jax.vmap(loss)(theta)),
            dual=saved.blank(saved.rows[-1]),
            result=saved.result,
            stats=saved.stats,
            rtol=saved.rtol,
            atol=saved.atol,
            method=saved.method,
            interpolation=saved.interpolation,
        )

    def name(self, states):
        return self.coordinates


def _states(potential: AbstractPotential, coordinates: str) -> AbstractMirrorStates:
    return (Dual if coordinates == "dual" else Primal)(potential)


def _is_structured(states: AbstractMirrorStates, loss: Loss) -> bool:
    return (
        isinstance(states.potential, AbstractSeparablePotential)
        and isinstance(loss, AbstractPredictionLoss)
        and states.potential.start.ndim == 1
    )


class Field(eqx.Module):
    """The vector field of the state."""

    states: AbstractMirrorStates
    loss: Loss

    def at(self, state: tuple[Theta, ...]) -> tuple[Theta, Theta, Bool[Array, ""]]:
        """theta and grad L, those of the start where theta is outside of the domain, and whether
        it is inside.
        """
        theta = self.states.effective(state)
        inside = jnp.all(jnp.isfinite(theta))
        theta = jnp.where(inside, theta, self.states.potential.start)
        return theta, loss_gradient(self.loss, theta), inside

    def __call__(self, t, y, args):
        return self.velocity(*self.at(y))

    def velocity(self, theta: Theta, gradient: Theta, inside: Bool[Array, ""]) -> tuple[Theta, ...]:
        """The time derivative of the state, for what `at` returns."""
        velocity = self.states.velocity(theta, gradient)
        # A velocity that no step size controller accepts. Not NaN, because times the cotangent zero
        # of a rejected step that is NaN.
        far = float(jnp.finfo(theta.dtype).max) ** 0.25
        return jax.tree.map(lambda leaf: jnp.where(inside, leaf, far), velocity)


class StructuredField(Field, AbstractStructuredField):
    """The same for a separable potential and a loss of linear predictions."""

    autonomous: ClassVar[bool] = True

    def jacobian(self, t, y, args):
        return self.with_jacobian(t, y, args)[1]

    def with_jacobian(self, t, y, args):
        assert isinstance(self.loss, AbstractPredictionLoss)
        theta, gradient, inside = self.at(y)
        diagonal, left, right = self.states.jacobian(theta, gradient)
        jacobian = DiagonalPlusLowRank(
            diagonal, left, right, self.loss.design, self.loss.curvature(theta)
        )
        return self.velocity(theta, gradient, inside), jacobian


def mirror_startable(potential: AbstractPotential, loss: Loss) -> tuple[Bool[Array, ""], RESULTS]:
    """Test whether a flow can start; with the result code if it cannot."""
    theta = potential.start
    finite_start = jnp.all(jnp.isfinite(theta))
    finite_loss = jnp.isfinite(loss(theta)) & jnp.all(jnp.isfinite(loss_gradient(loss, theta)))
    refusal = RESULTS.where(
        finite_start, RESULTS.nonfinite_initial_loss, RESULTS.nonfinite_initialization
    )
    return finite_start & finite_loss, refusal
