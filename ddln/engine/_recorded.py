"""The recorded adjoint: reverse mode through the steps that the forward pass took.

The steps are chosen once and recorded. Reverse mode replays those that were accepted, with their lengths held
fixed: a step replayed from a recorded state is the same one up to rounding. Checkpoints of a loop that
chooses its steps again would not do: rounding changes the choice, and the pieces of the path do not fit
together. The backward pass uses the queue of lanes too.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import default_platform, max_over_vmap, where_rows
from ddln._types import Array, Bool, Float, Int, PyTree
from ddln.engine._checkpoints import Checkpoints, Slots, kept_factor
from ddln.engine._queue import (
    Queue,
    gather,
    integrate_all,
    queue_of,
    scatter,
    schedule,
    vmap_lanes,
)
from ddln.engine._save_times import SaveTimes
from ddln.engine._saving_solver import inner_solver, reversible
from ddln.engine._stepper import FlowStepper, StepperInputs, StepperState
from ddln.solvers import AbstractRosenbrock


def is_recordable(solver: diffrax.AbstractSolver) -> bool:
    """Test whether a step is determined by its initial state, without memory of the steps before it."""
    return isinstance(solver, AbstractRosenbrock | diffrax.AbstractERK)


def integrate_recorded(
    stepper: FlowStepper, inputs: StepperInputs, progress: StepperState
) -> StepperState:
    """The final state of one integration; differentiable in reverse mode."""
    one = jax.tree.map(lambda leaf: leaf[None], eqx.filter(inputs, eqx.is_array))
    stack = eqx.combine(one, inputs), jax.tree.map(lambda leaf: leaf[None], progress)
    ended = integrate_all_recorded(stepper, *stack, queue_of(default_platform()))
    return jax.tree.map(lambda leaf: leaf[0], ended)


def integrate_all_recorded(
    stepper: FlowStepper, inputs: StepperInputs, progress: StepperState, queue: Queue
) -> StepperState:
    """The final states of a stack of integrations by a recordable solver; differentiable in reverse mode."""
    arrays, static = eqx.partition(inputs, eqx.is_array)
    first_inputs, one = _row((arrays, progress), 0)
    max_steps = stepper.solve.max_steps

    def inputs_of(row):
        return eqx.combine(row, static)

    _, solver = stepper.step_parts(inputs_of(first_inputs))
    saves = isinstance(solver, SaveTimes)

    def factorize(row, state, t0, t1):
        term, solver = stepper.step_parts(inputs_of(row))
        return inner_solver(solver).core(term, t0, t1, state, None)

    def replayed_step(row, state, t0, t1, factor):
        term, solver = stepper.step_parts(inputs_of(row))
        inner = reversible(inner_solver(solver))
        if isinstance(inner, AbstractRosenbrock):
            inner, memory = dataclasses.replace(inner, reverse=True), factor
        else:
            memory = inner.init(term, t0, t1, state, None)
        solver = eqx.tree_at(inner_solver, solver, inner) if saves else inner
        rows = jax.lax.stop_gradient(_saved(one.solver_state, saves))
        after, _, _, memory, _ = solver.step(
            term, t0, t1, state, None, _joined(memory, rows, saves), made_jump=False
        )
        return after, _saved(memory, saves)

    def advance(row, progress):
        if factor is not None:
            progress = _with_memory(progress, factor, saves)
        after = stepper.step(inputs_of(row), progress)
        if factor is None:
            return after, None
        return _with_memory(after, None, saves), _memory(after.solver_state, saves)

    at_step = first_inputs, one.state, one.t, one.t
    factor = converted_factorize = None
    if isinstance(inner_solver(solver), AbstractRosenbrock) and inputs.end.size == 1:
        converted_factorize = eqx.filter_closure_convert(factorize, *at_step)
        shape = eqx.filter_eval_shape(converted_factorize, *at_step)
        factor = kept_factor(shape, one.state, Slots.of(one.state, max_steps))
    run = _run(
        _Program(
            advance=eqx.filter_closure_convert(advance, first_inputs, one),
            factorize=converted_factorize,
            step=eqx.filter_closure_convert(replayed_step, *at_step, factor),
            inputs=arrays,
            progress=progress,
        ),
        max_steps,
        saves,
        queue,
    )
    return eqx.tree_at(
        lambda p: (p.t, p.state, p.solver_state),
        jax.tree.map(_constant, run),
        (run.t, run.state, _joined(None, _saved(run.solver_state, saves), saves)),
        is_leaf=_is_none,
    )


class _Program(NamedTuple):
    """B integrations as functions whose closures are leaves.

    Attributes:
        advance: `(inputs, state) -> (next_state, factor)` of one integration; the step chooses its length,
            and the factor is None if factors are not kept.
        factorize: `(inputs, state, t0, t1) -> factor`; None for many integrations.
        step: `(inputs, state, t0, t1, factor) -> (state, saved rows)`.
        inputs: `StepperInputs`, leading axis B.
        progress: the first `StepperState`s, leading axis B; differentiated in states and saved rows.
    """

    advance: Callable[[PyTree, StepperState], tuple[StepperState, Array | None]]
    factorize: Callable[[PyTree, PyTree, Array, Array], Array | None] | None
    step: Callable[[PyTree, PyTree, Array, Array, Array | None], tuple[PyTree, PyTree]]
    inputs: PyTree[Float[Array, "B ..."]]
    progress: StepperState


@eqx.filter_custom_vjp
def _run(program: _Program, max_steps: int, saves: bool, queue: Queue) -> StepperState:
    return integrate_all(program.advance, program.inputs, program.progress, queue)[0]


@_run.def_fwd
def _run_forward(perturbed, program: _Program, max_steps: int, saves: bool, queue: Queue):
    first = program.progress
    state = _row(first.state, 0)
    slots = Slots.of(state, max_steps)

    def record_step(checkpoints, lanes, before, after, factor):
        k = before.counts[:, 1]
        accepted = after.counts[:, 1] > k
        return checkpoints.record(slots, lanes, k, accepted, after.t, before.state, factor)

    # A function around it: JAX prints what it traces, here a whole program, to name it.
    row = _row((program.inputs, first), 0)
    _, factor = jax.eval_shape(lambda *args: program.advance(*args), *row)
    empty = Checkpoints.empty(first.t.shape[0], slots, first.t.dtype, state, factor)
    ended, checkpoints = integrate_all(
        program.advance, program.inputs, first, queue, empty, record_step
    )
    return ended, (checkpoints, ended.counts[:, 1], ended.t)


@_run.def_bwd
def _run_backward(
    residuals,
    cotangents,
    perturbed,
    program: _Program,
    max_steps: int,
    saves: bool,
    queue: Queue,
):
    checkpoints, count, last = residuals
    first, inputs = program.progress, program.inputs
    saved = _saved(first.solver_state, saves)
    saved_bar = with_zeros(_saved(cotangents.solver_state, saves), saved)
    reached = last == inputs.end
    backward = _Backward.of(
        program, perturbed, checkpoints, count, reached, saved_bar, max_steps, queue
    )
    state_bar = with_zeros(cotangents.state, first.state)
    zeros = jax.tree.map(jnp.zeros_like, (backward.moving_inputs, last, backward.moving_step))
    size = last.shape[0]
    carry = schedule(backward.segment, lambda c: c[0] > 0, (count, state_bar, *zeros), size, queue)
    _, state_bar, inputs_bar, end_bar, step_bar = carry

    # The end of the last step is t1.
    if cotangents.t is not None:
        end_bar = end_bar + jnp.where(reached, cotangents.t, 0)
    if inputs_bar.end is not None:
        inputs_bar = eqx.tree_at(lambda i: i.end, inputs_bar, inputs_bar.end + end_bar)
    none = jax.tree.map(lambda _: None, program)
    first_bar = eqx.tree_at(lambda p: p.state, none.progress, state_bar, is_leaf=_is_none)
    return none._replace(step=step_bar, inputs=inputs_bar, progress=first_bar)


class _Span(NamedTuple):
    """Consecutive steps of the integrations in the lanes; axes steps, lanes.

    Attributes:
        base: the number of the first one, per lane.
        made: whether a step was made.
        kept: whether its initial state was kept.
        slot: the slot of that state.
        at_end: whether the step ends at t1.
        t0, t1: its start and its end; the same for a step that was not made.
        trips: the most steps that were made in a lane, over all enclosing `vmap` axes.
    """

    base: Int[Array, " lanes"]
    made: Bool[Array, "steps lanes"]
    kept: Bool[Array, "steps lanes"]
    slot: Int[Array, "steps lanes"]
    at_end: Bool[Array, "steps lanes"]
    t0: Float[Array, "steps lanes"]
    t1: Float[Array, "steps lanes"]
    trips: Int[Array, ""]


class _Backward(NamedTuple):
    """The backward pass: a `segment` pulls cotangents back over one span of steps in every lane.

    Attributes:
        program: the integrations.
        moving_step, fixed_step: the leaves of `program.step` with a cotangent, and the rest.
        moving_inputs, fixed_inputs: those of `program.inputs`.
        t1_moves: whether the end has a cotangent.
        checkpoints: of the forward pass.
        slots: their arithmetic.
        count: numbers of accepted steps.
        reached: whether t1 was reached.
        saved_bar: cotangents of the saved rows.
        stride: the largest stride of all integrations, so that lanes replay in lockstep.
        longest: the most steps of a span.
        queue: how many integrations go back together.
    """

    program: _Program
    moving_step: PyTree
    fixed_step: PyTree
    moving_inputs: PyTree
    fixed_inputs: PyTree
    t1_moves: bool
    checkpoints: Checkpoints
    slots: Slots
    count: Int[Array, " B"]
    reached: Bool[Array, " B"]
    saved_bar: PyTree[Array]
    stride: Int[Array, ""]
    longest: int
    queue: Queue

    @classmethod
    def of(cls, program, perturbed, checkpoints, count, reached, saved_bar, max_steps, queue):
        slots = Slots.of(_row(program.progress.state, 0), max_steps)
        stride = max_over_vmap(jnp.max(slots.stride(jnp.maximum(count - 1, 0))))
        longest = max(queue.steps(count.shape[0]), slots.largest_stride)
        return cls(
            program,
            *eqx.partition(program.step, perturbed.step),
            *eqx.partition(program.inputs, perturbed.inputs),
            bool(perturbed.inputs.end),
            checkpoints,
            slots,
            count,
            reached,
            saved_bar,
            stride,
            longest,
            queue,
        )

    @property
    def width(self) -> int:
        return self.queue.width(self.count.shape[0])

    def segment(self, lanes: Int[Array, " lanes"], carry: PyTree) -> PyTree:
        """Pulls back over the last span of steps that is left in each lane."""
        left, state_bar, inputs_bar, end_bar, step_bar = carry
        span = self.span(lanes, left[lanes])
        rows = gather(lanes, (self.moving_inputs, self.fixed_inputs))
        states = self.replay(lanes, rows, span)
        bars = gather(lanes, (state_bar, inputs_bar, end_bar))
        saved_bar = gather(lanes, self.saved_bar)

        def back(i, carry):
            i = span.trips - 1 - i
            bars, step_bar, state = carry
            bars, step_bar = self.pull_back(lanes, rows, span, i, state, saved_bar, bars, step_bar)
            # Fetched ahead, or each kernel that reads it would fetch it anew.
            return bars, step_bar, _row(states, jnp.maximum(i - 1, 0))

        last = _row(states, jnp.maximum(span.trips - 1, 0))
        bars, step_bar, _ = jax.lax.fori_loop(0, span.trips, back, (bars, step_bar, last))
        moved = scatter(lanes, (state_bar, inputs_bar, end_bar), bars)
        return left.at[lanes].set(span.base), *moved, step_bar

    def span(self, lanes: Int[Array, " lanes"], left: Int[Array, " lanes"]) -> _Span:
        """The last steps of the `left` first ones of each lane, from a multiple of the stride on."""
        length = jnp.maximum(self.stride, self.queue.steps(self.count.shape[0]))
        base = (jnp.maximum(left - 1, 0) // length) * length
        k = base[None] + jnp.arange(self.longest)[:, None]
        made = k < left[None]
        at_end = made & (k == self.count[lanes][None] - 1) & self.reached[lanes][None]
        k = jnp.where(made, k, 0)
        kept = k % self.stride == 0
        times = self.checkpoints.times
        t0 = jnp.where(k > 0, times[lanes[None], jnp.maximum(k - 1, 0)], 0)
        return _Span(
            base=base,
            made=made,
            kept=kept,
            slot=self.slots.slot(jnp.where(kept, k, 0)),
            at_end=at_end,
            t0=t0,
            t1=jnp.where(made, times[lanes[None], k], t0),
            trips=max_over_vmap(jnp.max(left - base)),
        )

    def replay(self, lanes: Int[Array, " lanes"], rows: PyTree, span: _Span) -> PyTree[Array]:
        """The initial state of each step of a span, axes steps, lanes.

        Steps that were not taken are replayed from the initial state with length zero, so that nothing
        overflows.
        """
        inputs = eqx.combine(*rows)
        states = jax.tree.map(
            lambda kept, first: where_rows(span.made, kept[lanes, span.slot], first),
            self.checkpoints.states,
            gather(lanes, self.program.progress.state),
        )

        def fill_next(i, states):
            state = _row(states, i)
            factor = self._factorize(inputs, state, span, i)
            step = vmap_lanes(self.program.step, self.width)
            # Through `jax.vjp`: the step has a rule for reverse mode, and the code around it none.
            (after, _), _ = jax.vjp(
                lambda y: step(inputs, y, span.t0[i], span.t1[i], factor), state
            )
            missing = span.made[i + 1] & ~span.kept[i + 1]
            return jax.tree.map(
                lambda leaf, row: leaf.at[i + 1].set(where_rows(missing, row, leaf[i + 1])),
                states,
                after,
            )

        trips = jnp.where(self.stride > 1, span.trips - 1, 0)
        return jax.lax.fori_loop(0, trips, fill_next, states)

    def pull_back(
        self,
        lanes: Int[Array, " lanes"],
        rows: PyTree,
        span: _Span,
        i: Int[Array, ""],
        state: PyTree[Array],
        saved_bar: PyTree[Array],
        bars: PyTree[Array],
        step_bar: PyTree[Array],
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        """Pulls the cotangents back over step i of a span, made from `state`."""
        state_bar, inputs_bar, end_bar = bars
        made, t0 = span.made[i], span.t0[i]
        factor = self._factor(lanes, eqx.combine(*rows), span, i, state)

        def step(moving_step, moving_inputs, state, t1):
            lanes_step = vmap_lanes(eqx.combine(moving_step, self.fixed_step), self.width)
            return lanes_step(eqx.combine(moving_inputs, rows[1]), state, t0, t1, factor)

        if self.t1_moves:
            _, vjp = jax.vjp(step, self.moving_step, rows[0], state, span.t1[i])
        else:
            t1 = span.t1[i]
            _, vjp = jax.vjp(lambda *moving: step(*moving, t1), self.moving_step, rows[0], state)  # pyright: ignore
        more, row_bar, before_bar, *t1_bar = vjp(where_rows(made, (state_bar, saved_bar), 0))
        state_bar = where_rows(made, before_bar, state_bar)
        for bar in t1_bar:
            end_bar = end_bar + jnp.where(span.at_end[i], bar, 0)
        return (state_bar, _sum(inputs_bar, row_bar), end_bar), _sum(step_bar, more)

    def _factor(self, lanes, inputs: PyTree, span: _Span, i: Array, state: PyTree) -> Array | None:
        """The factor of step i: a kept one if the state of every step was kept."""
        factors = self.checkpoints.factors
        if factors is None:
            return None
        return jax.lax.cond(
            self.stride == 1,
            lambda: factors[lanes, span.slot[i]],
            lambda: self._factorize(inputs, state, span, i),
        )

    def _factorize(self, inputs: PyTree, state: PyTree, span: _Span, i: Array) -> Array | None:
        if self.checkpoints.factors is None:
            return None
        assert self.program.factorize is not None
        factorize = vmap_lanes(self.program.factorize, self.width)
        return factorize(inputs, state, span.t0[i], span.t1[i])


def with_zeros(cotangent: PyTree, like: PyTree) -> PyTree:
    """A cotangent with zeros where there is none."""
    return jax.tree.map(
        lambda leaf, bar: jnp.zeros_like(leaf) if bar is None else bar, like, cotangent
    )


def _saved(solver_state: PyTree, saves: bool) -> PyTree:
    """The saved rows in the state of a `SaveTimes`; None if only the end is saved."""
    return solver_state[1] if saves else None


def _memory(solver_state: PyTree, saves: bool) -> PyTree:
    """The state of the inner solver."""
    return solver_state[0] if saves else solver_state


def _joined(memory: PyTree, rows: PyTree, saves: bool) -> PyTree:
    return (memory, rows) if saves else memory


def _with_memory(progress: StepperState, memory: PyTree, saves: bool) -> StepperState:
    """The same with this state of the inner solver."""
    state = _joined(memory, _saved(progress.solver_state, saves), saves)
    return eqx.tree_at(lambda p: p.solver_state, progress, state, is_leaf=_is_none)


def _row(stack: PyTree, i: int | Int[Array, ""]) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[i], stack)


def _constant(leaf: Array) -> Array:
    """Stop gradients. An integer output of a custom rule needs a new variable as well."""
    return jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf | leaf


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _sum(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, a, b)
