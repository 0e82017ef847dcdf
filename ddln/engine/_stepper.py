"""An integration step by step, so that many can share the lanes of one program."""

import operator
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import where_rows
from ddln._results import RESULTS
from ddln._types import Array, Bool, Float, Int, Loss, PyTree
from ddln.engine._dynamics import STATS, AbstractDynamics, Saved, chosen_solver, dtype_of
from ddln.engine._event_location import event_value, is_real, locate
from ddln.engine._per_lane import with_values
from ddln.engine._save_times import SaveTimes, saved_rows
from ddln.engine._saving_solver import with_scan
from ddln.engine._settings import Solve, in_dtype
from ddln.engine._step_control import StepControl


class StepperInputs(eqx.Module):
    """Constants of one integration.

    Attributes:
        states: the unknowns, with what they start from.
        values: the values of `PerLane` places in the dynamics, the loss and the settings.
        end: the end of the integration; 0 if it cannot start.
        atol: the absolute tolerance, scaled with the start.
        startable: whether it can start.
    """

    states: Any
    values: tuple[Any, ...]
    end: Float[Array, ""]
    atol: Float[Array, ""]
    startable: Bool[Array, ""]


class StepperState(eqx.Module):
    """State of one integration after some steps.

    Attributes:
        t: the time reached.
        state: the state of the dynamics there.
        solver_state, controller_state: as diffrax saves them.
        next_time: the end of the next step, as the controller chose it.
        counts: the numbers of steps so far, all, accepted and rejected: in the order of `STATS`.
        result: successful while the integration goes on.
        running: whether it goes on.
        crossing: whether an event happens within the next step, which is not taken; None without one.
    """

    t: Float[Array, ""]
    state: PyTree[Array]
    solver_state: PyTree
    controller_state: PyTree
    next_time: Float[Array, ""]
    counts: Int[Array, "3"]
    result: RESULTS
    running: Bool[Array, ""]
    crossing: Bool[Array, ""] | None = None

    @property
    def stats(self) -> dict[str, Int[Array, "..."]]:
        """The numbers of steps by name; of many integrations if they are stacked."""
        counts = self.counts
        if self.crossing is not None:
            # The step with the event is taken when it is located.
            counts = counts.at[..., 1].add(self.crossing.astype(counts.dtype))
        return {key: counts[..., i] for i, key in enumerate(STATS)}


class Method(NamedTuple):
    """A step's ingredients."""

    term: diffrax.ODETerm
    solver: diffrax.AbstractSolver
    control: StepControl
    ts: Array | None
    rtol: Array
    name: str


class FlowStepper(eqx.Module):
    """A dynamics, a loss and settings, integrated one step at a time.

    After `begin`, each `step` makes one step, and `finish` the trajectory. The loop is the caller's: that
    of `diffrax.diffeqsolve` compiles about twice as long, and does not stop between steps. All three
    parts may have `PerLane` places, whose values the inputs of a lane carry.
    """

    dynamics: AbstractDynamics
    loss: Any
    solve: Solve

    def with_values(self, values: Any) -> "FlowStepper":
        """The stepper of one lane: with these values in its `PerLane` places."""
        return with_values(self, values)

    def begin(self, start: Any, values: Any = ()) -> tuple[StepperInputs, StepperState]:
        """The inputs and the first state of the integration from a start.

        Raises:
            ValueError: if the start or the loss does not fit the dynamics.
        """
        lane = self.with_values(values)
        return self.begin_in(lane.dynamics.states(start, lane.loss), values)

    def begin_in(self, states: Any, values: Any = ()) -> tuple[StepperInputs, StepperState]:
        """`begin` from given unknowns."""
        lane = self.with_values(values)._converted(states)
        dynamics, loss, solve = lane.dynamics, lane.loss, lane.solve
        first = dynamics.initial_state(states, loss)
        startable, refusal = dynamics.startable(states, loss)
        result = RESULTS.where(startable, RESULTS.successful, refusal)  # pyright: ignore
        timely = _are_times(solve)
        result = RESULTS.where(startable & ~timely, RESULTS.invalid_times, result)  # pyright: ignore
        startable = startable & timely
        end = jnp.where(startable, solve.t1, 0)
        crossing = None
        if solve.event is not None and is_real(solve.event, dynamics, states, loss, first):
            met = event_value(solve.event, dynamics, states, loss, jnp.zeros_like(end), first)
            undefined = startable & jnp.isnan(met)
            met = startable & (met <= 0)
            end, crossing = jnp.where(met | undefined, 0, end), jnp.zeros_like(met)
            occurred = RESULTS.promote(diffrax.RESULTS.event_occurred)
            result = RESULTS.where(met, occurred, result)
            result = RESULTS.where(undefined, RESULTS.undefined_event, result)  # pyright: ignore
        inputs = StepperInputs(
            states=states,
            values=tuple(values),
            end=end,
            atol=solve.atol * dynamics.atol_factor(states),
            startable=startable,
        )
        method = lane.method(inputs)
        start = jnp.zeros_like(end)
        # A problem that cannot start runs on zeros, for no time: it cannot disturb its neighbours.
        state = jax.tree.map(lambda leaf: jnp.where(startable, leaf, 0), first)
        # From the state as it is, also of a flow that cannot start, for what is known of it already.
        next_time, controller_state = method.control.init(
            method.term,
            start,
            end,
            first,
            None,
            None,
            method.solver.func,
            method.solver.error_order(method.term),
        )
        next_time = jnp.where(startable, jnp.minimum(next_time, end), end)
        return inputs, StepperState(
            t=start,
            state=state,
            solver_state=method.solver.init(method.term, start, next_time, state, None),  # pyright: ignore
            controller_state=jax.tree.map(jnp.asarray, controller_state),
            next_time=next_time,
            counts=jnp.zeros(len(STATS), int),
            result=result,
            running=end > start,
            crossing=crossing,
        )

    def step(self, inputs: StepperInputs, progress: StepperState) -> StepperState:
        """One step more, none if the integration is not running."""
        lane = self._lane(inputs)
        method = lane.method(inputs)
        t0, t1, state = progress.t, progress.next_time, progress.state
        after, error, _, solver_state, code = method.solver.step(
            method.term, t0, t1, state, None, progress.solver_state, made_jump=False
        )
        error = jax.tree.map(lambda leaf: jnp.where(jnp.isnan(leaf), jnp.inf, leaf), error)
        order: Any = method.solver.error_order(method.term)
        adapted: Any = method.control.adapt_step_size(
            t0, t1, state, after, None, error, order, progress.controller_state
        )
        keep, t, next_time, _, controller_state, control_code = adapted
        t = jnp.minimum(t, inputs.end)
        # No tiny step is left for the end; a rejected last step is halved.
        last = jnp.where(keep, inputs.end, t + (inputs.end - t) / 2)
        next_time = jnp.where(next_time > _almost(inputs.end), last, next_time)

        codes = diffrax.RESULTS
        code = codes.where(keep, code, codes.successful)
        code = codes.where(code == codes.successful, control_code, code)
        accepted = keep
        on = (code == codes.successful) & (t < inputs.end)
        crossing, undefined = None, jnp.zeros_like(on)
        if lane.solve.event is not None:
            met = event_value(lane.solve.event, lane.dynamics, inputs.states, lane.loss, t1, after)
            if jnp.issubdtype(met.dtype, jnp.floating):
                undefined = on & keep & jnp.isnan(met)
            met = met if met.dtype == bool else met <= 0
            met = keep & (code == codes.successful) & met
            code = codes.where(met, codes.event_occurred, code)
            on = on & ~met
            if progress.crossing is not None:
                # The step that crosses is left to `finish`, which locates the event within it.
                crossing, accepted = met, keep & ~met
                t, next_time = jnp.where(met, t0, t), jnp.where(met, t1, next_time)
        made = jnp.stack([jnp.ones_like(keep), accepted, ~keep]).astype(int)
        counts = progress.counts + made
        exhausted = counts[0] >= self.solve.max_steps
        code = codes.where(on & exhausted, codes.max_steps_reached, code)

        result = RESULTS.promote(code)
        # A step of one unit of rounding that is rejected, or of none, is so for ever.
        stuck = on & jnp.where(keep, next_time <= t, next_time >= t1)
        result = RESULTS.where(stuck, RESULTS.unresolved_time, result)  # pyright: ignore
        result = RESULTS.where(undefined, RESULTS.undefined_event, result)  # pyright: ignore

        def kept(new, old):
            return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)

        new = StepperState(
            t=t,
            state=kept(after, state),
            solver_state=kept(solver_state, progress.solver_state),
            controller_state=controller_state,
            next_time=next_time,
            counts=counts,
            result=result,
            running=on & ~exhausted & ~stuck & ~undefined,
            crossing=crossing,
        )
        # An integration that ended keeps what it ended with.
        return jax.tree.map(lambda a, b: jnp.where(progress.running, a, b), new, progress)

    def finish(self, inputs: StepperInputs, progress: StepperState) -> Any:
        """The trajectory, as the dynamics returns it."""
        lane = self._lane(inputs)
        method = lane.method(inputs)
        dynamics, states, loss = lane.dynamics, inputs.states, lane.loss
        last, end, rows = progress.t, progress.state, None
        if method.ts is not None:
            rows = saved_rows(progress)
        if progress.crossing is not None:
            last, end, rows = locate(
                lambda t, y: event_value(lane.solve.event, dynamics, states, loss, t, y),  # pyright: ignore
                method.term,
                method.solver,
                progress,
                method.ts,
                rows,
            )
        if method.ts is None:
            times, rows = last[None], jax.tree.map(lambda leaf: leaf[None], end)
        else:
            times = method.ts
        return filled(
            dynamics,
            states,
            loss,
            times,
            rows,
            last=last,
            startable=inputs.startable,
            result=progress.result,
            stats=progress.stats,
            rtol=method.rtol,
            atol=inputs.atol,
            method=method.name,
        )

    def step_parts(self, inputs: StepperInputs) -> tuple[diffrax.ODETerm, diffrax.AbstractSolver]:
        """The term and the solver of a step, for steps that are replayed."""
        method = self._lane(inputs).method(inputs)
        return method.term, method.solver

    def _lane(self, inputs: StepperInputs) -> "FlowStepper":
        return self.with_values(inputs.values)._converted(inputs.states)

    def _converted(self, states: Any) -> "FlowStepper":
        """The same with all numbers in the dtype of the state."""
        dtype = dtype_of(self.dynamics, states, self.loss)
        return FlowStepper(in_dtype(self.dynamics, dtype), self.loss, self.solve.in_dtype(dtype))

    def method(self, inputs: StepperInputs) -> Method:
        """The ingredients of a step, for a stepper without `PerLane` places."""
        dynamics, loss, solve = self.dynamics, self.loss, self.solve
        inside, jumps = dynamics.inside(inputs.states), dynamics.jumps()
        control = StepControl(solve.rtol, inputs.atol, inside, jumps)  # pyright: ignore
        solver = chosen_solver(dynamics, inputs.states, loss, solve.solver, reverse=False)
        name = method_name(dynamics, inputs.states, solver)
        solver = _prepared(solver, control)
        return Method(
            term=diffrax.ODETerm(dynamics.field(inputs.states, loss)),
            solver=solver if solve.ts is None else SaveTimes(solver, solve.ts),
            control=control,
            ts=solve.ts,
            rtol=solve.rtol,
            name=name,
        )


def method_name(dynamics: AbstractDynamics, states: Any, solver: diffrax.AbstractSolver) -> str:
    """The coordinates and the solver, as `Trajectory.method` names them."""
    return f"{dynamics.name(states)}, {type(solver).__name__}"


def filled(
    dynamics: AbstractDynamics,
    states: Any,
    loss: Loss,
    times: Float[Array, " T"],
    rows: PyTree[Array],
    *,
    last: Float[Array, ""],
    startable: Bool[Array, ""],
    **rest: Any,
) -> Any:
    """The trajectory of a dynamics, from its saved rows: those that were not reached have the start."""
    reached = startable & (times <= last)
    first = dynamics.initial_state(states, loss)
    # No step has the rows at time 0.
    stepped = reached & (times > 0)
    rows = where_rows(stepped, rows, jax.tree.map(lambda leaf: leaf[None], first))
    times = jnp.where(reached, times, jnp.inf)
    return dynamics.trajectory(states, loss, Saved(times=times, rows=rows, reached=reached, **rest))


def _are_times(solve: Solve) -> Bool[Array, ""]:
    """True if the end and the times to save at are as `Solve.checked` wants them where it knows them."""
    fine = (solve.t1 > 0) & jnp.isfinite(solve.t1)
    return fine if solve.ts is None else fine & jnp.all((solve.ts >= 0) & (solve.ts <= solve.t1))


def _almost(end: Float[Array, ""]) -> Float[Array, ""]:
    """A time that is the end up to rounding."""
    return end * (1 - 64 * float(jnp.finfo(end.dtype).eps))


def _prepared(solver: diffrax.AbstractSolver, control: StepControl) -> diffrax.AbstractSolver:
    """The solver as `diffrax.diffeqsolve` would call it."""
    if isinstance(solver, diffrax.AbstractRungeKutta) and solver.scan_kind is None:
        solver = with_scan(solver, "lax")
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        # The root finder may leave its tolerances to the controller, by a mark in their place.
        finder = solver.root_finder
        for name in ("rtol", "atol", "norm"):
            setting = getattr(finder, name)
            if not (eqx.is_array_like(setting) or callable(setting)):
                finder = eqx.tree_at(operator.attrgetter(name), finder, getattr(control, name))
        solver = eqx.tree_at(lambda s: s.root_finder, solver, finder)
    return solver
