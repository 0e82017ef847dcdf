"""A gradient flow in segments of a few steps, so that many flows can share the lanes of one program."""

from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._results import RESULTS
from ddln._types import Array, Bool, Float, Loss, PyTree
from ddln.flows._arguments import check_model
from ddln.flows._gradient_flow import (
    STATS,
    choose_solver,
    prepare,
    state_space,
    term,
    trajectory,
)
from ddln.flows._save_times import SaveTimes, saved_rows
from ddln.flows._state import AbstractStateSpace
from ddln.flows._step_control import step_control
from ddln.flows._trajectory import Trajectory
from ddln.parameterizations import AbstractParameterization


class Start(eqx.Module):
    """What stays the same along a flow.

    Attributes:
        space: the unknowns, and the parameterization they start from.
        end: the end of the integration; 0 for a flow that cannot start.
        atol: the absolute tolerance, for weights of this size.
        startable: whether the flow can start.
    """

    space: AbstractStateSpace
    end: Float[Array, ""]
    atol: Float[Array, ""]
    startable: Bool[Array, ""]


class Progress(eqx.Module):
    """Where a flow stands after some steps.

    Attributes:
        t: the time reached.
        state: the unknowns and the dual there.
        solver_state, controller_state: as diffrax saves them.
        next_time: the end of the next step, as the controller chose it.
        stats: numbers of steps so far.
        result: successful while the flow goes on.
        running: whether the flow goes on.
    """

    t: Float[Array, ""]
    state: PyTree[Array]
    solver_state: PyTree
    controller_state: PyTree
    next_time: Float[Array, ""]
    stats: dict[str, Array]
    result: RESULTS
    running: Bool[Array, ""]


class SegmentedFlow(eqx.Module):
    """The arguments of `gradient_flow`, without those for derivatives and events.

    After `begin`, `advance` makes some steps, and `finish` the trajectory that `gradient_flow`
    returns: the same steps, whatever the lengths of the segments.
    """

    loss: Loss
    t1: Float[Array, ""]
    ts: Float[Array, " T"] | None
    rtol: Float[Array, ""]
    atol: Float[Array, ""]
    solver: diffrax.AbstractSolver | None
    coordinates: str = eqx.field(static=True)
    dual: bool = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def begin(self, parameterization: AbstractParameterization) -> tuple[Start, Progress]:
        check_model(parameterization, self.loss)
        space = state_space(parameterization, self.coordinates)
        dtype = parameterization.effective().dtype
        lane = prepare(
            space, self.loss, self.t1.astype(dtype), self.atol.astype(dtype), dual=self.dual
        )
        flow = Start(space=space, end=lane.end, atol=lane.atol, startable=lane.startable)
        parts = self._parts(flow)
        solver, vector_field = parts.solver, parts.term
        start = jnp.zeros_like(lane.end)
        next_time, (controller_state, _) = step_control(parts.rtol, lane.atol).init(
            vector_field,
            start,
            lane.end,
            lane.state,
            None,
            None,
            solver.func,
            solver.error_order(vector_field),
        )
        next_time = jnp.minimum(next_time, lane.end)
        return flow, Progress(
            t=start,
            state=lane.state,
            solver_state=solver.init(vector_field, start, next_time, lane.state, None),
            controller_state=jax.tree.map(jnp.asarray, controller_state),
            next_time=next_time,
            stats={key: jnp.zeros((), int) for key in STATS},
            result=lane.outcome(diffrax.RESULTS.successful),
            running=lane.end > start,
        )

    def advance(self, start: Start, progress: Progress, steps: int) -> Progress:
        """At most so many steps more, none if the flow is not running."""
        parts = self._parts(start)
        solution = diffrax.diffeqsolve(
            parts.term,
            parts.solver,
            progress.t,
            jnp.where(progress.running, start.end, progress.t),
            None,
            progress.state,
            saveat=diffrax.SaveAt(t1=True, solver_state=True, controller_state=True),
            stepsize_controller=step_control(parts.rtol, start.atol, progress.next_time),
            solver_state=progress.solver_state,
            controller_state=(progress.controller_state, progress.next_time),
            adjoint=diffrax.ForwardMode(),
            max_steps=steps,
            throw=False,
        )
        assert solution.ts is not None  # `SaveAt(t1=True)` saves it
        stats = {key: progress.stats[key] + jnp.asarray(solution.stats[key]) for key in STATS}
        exhausted = diffrax.RESULTS.max_steps_reached
        paused = solution.result == exhausted
        running = paused & (stats["num_steps"] < self.max_steps)
        result = RESULTS.where(running, progress.result, RESULTS.promote(solution.result))
        # A segment can pass `max_steps` by a few steps; whether a flow ends in time stays exact.
        late = stats["num_steps"] > self.max_steps
        result = RESULTS.where(late, RESULTS.promote(exhausted), result)
        controller_state, next_time = solution.controller_state  # pyright: ignore
        after = Progress(
            t=solution.ts[-1],
            state=jax.tree.map(lambda leaf: leaf[-1], solution.ys),
            solver_state=solution.solver_state,
            controller_state=controller_state,
            next_time=next_time,
            stats=stats,
            result=result,
            running=running,
        )
        # A flow that ended keeps what it ended with.
        return jax.tree.map(lambda new, old: jnp.where(progress.running, new, old), after, progress)

    def finish(self, start: Start, progress: Progress) -> Trajectory:
        parts = self._parts(start)
        if parts.ts is None:
            times = progress.t[None]
            states = jax.tree.map(lambda leaf: leaf[None], progress.state)
        else:
            times, states = parts.ts, saved_rows(progress)
        return trajectory(
            start.space,
            self.loss,
            times,
            states,
            last=progress.t,
            result=progress.result,
            stats=progress.stats,
            startable=start.startable,
            rtol=parts.rtol,
            atol=start.atol,
            method=parts.method,
        )

    def _parts(self, start: Start) -> "_Parts":
        dtype = start.end.dtype
        ts = None if self.ts is None else self.ts.astype(dtype)
        solver, method = choose_solver(start.space, self.loss, self.solver, reverse=False)
        return _Parts(
            term=term(start.space, self.loss),
            solver=solver if ts is None else SaveTimes(solver, ts),
            ts=ts,
            rtol=self.rtol.astype(dtype),
            method=method,
        )


class _Parts(NamedTuple):
    term: diffrax.ODETerm
    solver: diffrax.AbstractSolver
    ts: Array | None
    rtol: Array
    method: str
