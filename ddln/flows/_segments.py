"""A gradient flow step by step, so that many flows can share the lanes of one program."""

import operator
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._results import RESULTS
from ddln._types import Array, Bool, Float, Int, Loss, PyTree
from ddln.flows._arguments import check_model
from ddln.flows._save_times import SaveTimes, saved_rows
from ddln.flows._setup import (
    STATS,
    choose_solver,
    prepare,
    state_space,
    term,
    trajectory,
)
from ddln.flows._state import AbstractStateSpace
from ddln.flows._step_control import StepControl
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
        counts: the numbers of steps so far, all, accepted and rejected: in the order of `STATS`.
        result: successful while the flow goes on.
        running: whether the flow goes on.
    """

    t: Float[Array, ""]
    state: PyTree[Array]
    solver_state: PyTree
    controller_state: PyTree
    next_time: Float[Array, ""]
    counts: Int[Array, "3"]
    result: RESULTS
    running: Bool[Array, ""]

    @property
    def stats(self) -> dict[str, Int[Array, "..."]]:
        """The numbers of steps by name; of many flows if they are stacked."""
        return {key: self.counts[..., i] for i, key in enumerate(STATS)}


class SegmentedFlow(eqx.Module):
    """The arguments of `gradient_flow`, without those for derivatives and events.

    After `begin`, each `step` makes one step, and `finish` the trajectory that `gradient_flow`
    returns: the same steps. The loop is the caller's: that of `diffrax.diffeqsolve` compiles about
    twice as long, and does not stop between steps.
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
        return self.begin_in(state_space(parameterization, self.coordinates))

    def begin_in(self, space: AbstractStateSpace) -> tuple[Start, Progress]:
        """The same for a state space; `coordinates` is not looked at."""
        dtype = space.initial.effective().dtype
        lane = prepare(
            space, self.loss, self.t1.astype(dtype), self.atol.astype(dtype), dual=self.dual
        )
        flow = Start(space=space, end=lane.end, atol=lane.atol, startable=lane.startable)
        parts = self.parts(flow)
        solver, vector_field = parts.solver, parts.term
        start = jnp.zeros_like(lane.end)
        # From the state as it is, also of a flow that cannot start, for what is known of it already.
        next_time, controller_state = parts.control.init(
            vector_field,
            start,
            lane.end,
            (space.start(), lane.state[1]),
            None,
            None,
            solver.func,
            solver.error_order(vector_field),
        )
        next_time = jnp.where(lane.startable, jnp.minimum(next_time, lane.end), lane.end)
        return flow, Progress(
            t=start,
            state=lane.state,
            solver_state=solver.init(vector_field, start, next_time, lane.state, None),
            controller_state=jax.tree.map(jnp.asarray, controller_state),
            next_time=next_time,
            counts=jnp.zeros(len(STATS), int),
            result=RESULTS.where(lane.startable, RESULTS.successful, lane.refusal),  # pyright: ignore
            running=lane.end > start,
        )

    def step(self, start: Start, progress: Progress) -> Progress:
        """One step more, none if the flow is not running."""
        parts = self.parts(start)
        t0, t1, state = progress.t, progress.next_time, progress.state
        after, error, _, solver_state, code = parts.solver.step(
            parts.term, t0, t1, state, None, progress.solver_state, made_jump=False
        )
        error = jax.tree.map(lambda leaf: jnp.where(jnp.isnan(leaf), jnp.inf, leaf), error)
        order: Any = parts.solver.error_order(parts.term)
        adapted: Any = parts.control.adapt_step_size(
            t0, t1, state, after, None, error, order, progress.controller_state
        )
        keep, t, next_time, _, controller_state, control_code = adapted
        t = jnp.minimum(t, start.end)
        # No tiny step is left for the end; a rejected last step is halved.
        last = jnp.where(keep, start.end, t + (start.end - t) / 2)
        next_time = jnp.where(next_time > _almost(start.end), last, next_time)

        def kept(new, old):
            return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old)

        codes = diffrax.RESULTS
        code = codes.where(keep, code, codes.successful)
        code = codes.where(code == codes.successful, control_code, code)
        counts = progress.counts + jnp.stack([jnp.ones_like(keep), keep, ~keep]).astype(int)
        on = (code == codes.successful) & (t < start.end)
        exhausted = counts[0] >= self.max_steps
        code = codes.where(on & exhausted, codes.max_steps_reached, code)
        new = Progress(
            t=t,
            state=kept(after, state),
            solver_state=kept(solver_state, progress.solver_state),
            controller_state=controller_state,
            next_time=next_time,
            counts=counts,
            result=RESULTS.promote(code),
            running=on & ~exhausted,
        )
        # A flow that ended keeps what it ended with.
        return jax.tree.map(lambda a, b: jnp.where(progress.running, a, b), new, progress)

    def finish(self, start: Start, progress: Progress) -> Trajectory:
        parts = self.parts(start)
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

    def parts(self, start: Start) -> "Parts":
        """What a step is made by."""
        dtype = start.end.dtype
        ts = None if self.ts is None else self.ts.astype(dtype)
        rtol = self.rtol.astype(dtype)
        control = StepControl(rtol, start.atol)
        solver, method = choose_solver(start.space, self.loss, self.solver, reverse=False)
        solver = _prepared(solver, control)
        return Parts(
            term=term(start.space, self.loss),
            solver=solver if ts is None else SaveTimes(solver, ts),
            control=control,
            ts=ts,
            rtol=rtol,
            method=method,
        )


class Parts(NamedTuple):
    term: diffrax.ODETerm
    solver: diffrax.AbstractSolver
    control: StepControl
    ts: Array | None
    rtol: Array
    method: str


def _almost(end: Float[Array, ""]) -> Float[Array, ""]:
    """A time that is the end up to rounding."""
    return end * (1 - 64 * float(jnp.finfo(end.dtype).eps))


def _prepared(solver: diffrax.AbstractSolver, control: StepControl) -> diffrax.AbstractSolver:
    """The solver as `diffrax.diffeqsolve` would call it."""
    if isinstance(solver, diffrax.AbstractRungeKutta) and solver.scan_kind is None:
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda x: x is None)
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        # The root finder may leave its tolerances to the controller, by a mark in their place.
        finder = solver.root_finder
        for name in ("rtol", "atol", "norm"):
            setting = getattr(finder, name)
            if not (eqx.is_array_like(setting) or callable(setting)):
                finder = eqx.tree_at(operator.attrgetter(name), finder, getattr(control, name))
        solver = eqx.tree_at(lambda s: s.root_finder, solver, finder)
    return solver
