"""Flows that record their steps, so that reverse mode goes back through the same ones."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, Int, PyTree
from ddln.flows._queue import (
    at,
    drain,
    in_queue,
    most,
    put,
    queue_width,
    segment_length,
    side_by_side,
)
from ddln.flows._save_times import SaveTimes
from ddln.flows._segments import Progress, SegmentedFlow, Start
from ddln.solvers._rosenbrock import AbstractRosenbrock

# States that are kept of a flow, a power of two, if they do not take more memory than SLOT_BYTES. Of more
# steps every second one is kept, or every fourth, and so on; those between are made again.
SLOTS = 512
SLOT_BYTES = 2**28
# Of one flow the cores of the linear systems are kept, too, if one is not larger than so many states and all
# of them do not take more than SLOT_BYTES: to find them again is a third of the work.
CORE_STATES = 8


class _Argument(NamedTuple):
    """What a stack of B flows is made of. The functions have all that they close over as leaves.

    Attributes:
        advance: from what one flow starts from and where it stands: one step more, of a length it chooses,
            and the core of its linear system, or None if cores are not recorded.
        core: from what one flow starts from and a state, between two times: the core; None for many flows.
        step: from the same with the core, or None if cores are not recorded: the state after the step, and
            the saved rows.
        starts: what the flows start from, leading axis B.
        progress: where they stand, leading axis B; differentiated in states and saved rows.
    """

    advance: Callable[[PyTree, Progress], tuple[Progress, Array | None]]
    core: Callable[[PyTree, PyTree, Array, Array], Array | None] | None
    step: Callable[[PyTree, PyTree, Array, Array, Array | None], tuple[PyTree, PyTree]]
    starts: PyTree[Float[Array, "B ..."]]
    progress: Progress


class _Record(NamedTuple):
    """The ends of the accepted steps, and of some of them the state they start from and the core."""

    times: Float[Array, "B steps"]
    states: PyTree[Float[Array, "B slots ..."]]
    cores: Float[Array, "B slots m m"] | None


def record_bytes(state: PyTree, max_steps: int) -> int:
    """The memory that the record of one flow takes."""
    dtype = jax.tree.leaves(state)[0].dtype
    return max_steps * dtype.itemsize + _slots(state) * _bytes(state)


def _bytes(state: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def run_to_end(flow: SegmentedFlow, start: Start, progress: Progress) -> Progress:
    """`drain_recorded` for one flow."""
    one = jax.tree.map(lambda leaf: leaf[None], eqx.filter(start, eqx.is_array))
    stack = eqx.combine(one, start), jax.tree.map(lambda leaf: leaf[None], progress)
    return jax.tree.map(lambda leaf: leaf[0], drain_recorded(flow, *stack))


def drain_recorded(flow: SegmentedFlow, starts: Start, progress: Progress) -> Progress:
    """`drain` for a solver that keeps no state; differentiable in reverse mode.

    The steps are chosen once and recorded. Reverse mode goes back through those that were accepted, their
    lengths held fixed: a step that is made again from a recorded state is the same one up to rounding.
    Checkpoints of a loop that chooses its steps again would not do: rounding changes the choice, and the
    pieces of the path do not fit together. Back, too, a lane whose flow has ended takes the next one.
    """
    arrays, static = eqx.partition(starts, eqx.is_array)
    one_start, one = _first((arrays, progress))

    def find_core(row, state, t0, t1):
        parts = flow.parts(eqx.combine(row, static))
        solver = parts.solver.solver if isinstance(parts.solver, SaveTimes) else parts.solver
        assert isinstance(solver, AbstractRosenbrock)
        return solver.core(parts.term, t0, t1, state, None)

    at_step = one_start, one.state, one.t, one.t
    # Of many flows cores would take most of the memory.
    alone = starts.end.size == 1
    core_of_step = eqx.filter_closure_convert(find_core, *at_step) if alone else None
    core = None if core_of_step is None else eqx.filter_eval_shape(core_of_step, *at_step)
    if core is not None:
        room = min(CORE_STATES * _bytes(one.state), SLOT_BYTES // _slots(one.state))
        core = jnp.zeros_like(core) if _bytes(core) <= room else None

    def step(row, state, t0, t1, core):
        parts = flow.parts(eqx.combine(row, static))
        solver, before = _reversible(parts.solver), _with_core(jax.lax.stop_gradient(one), core)
        after, _, _, inner, _ = solver.step(
            parts.term, t0, t1, state, None, before.solver_state, made_jump=False
        )
        return after, _rows(inner)

    def advance(row, progress):
        after = flow.step(eqx.combine(row, static), _with_core(progress, core))
        state = after.solver_state
        return _with_core(after, None), state[0] if isinstance(state, tuple) else state

    argument = _Argument(
        advance=eqx.filter_closure_convert(advance, one_start, one),
        core=core_of_step,
        step=eqx.filter_closure_convert(step, *at_step, core),
        starts=arrays,
        progress=progress,
    )
    run, ts = _run(argument, flow.max_steps), flow.ts
    ended = eqx.tree_at(
        lambda p: (p.t, p.state, p.solver_state),
        jax.tree.map(_constant, run),
        (run.t, run.state, run.solver_state),
        is_leaf=_is_none,
    )
    if ts is None:
        return ended
    # No step has the rows at the start.
    rows = jax.tree.map(
        lambda row, first: jnp.where(_beside(ts > 0, row[0])[None], row, first[:, None]),
        _rows(ended.solver_state),
        progress.state,
    )
    return eqx.tree_at(lambda p: p.solver_state, ended, (None, rows), is_leaf=_is_none)


def _first(stack: PyTree) -> PyTree:
    return _step(0, stack)


def _step(i: int | Int[Array, ""], stack: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[i], stack)


def _rows(solver_state: PyTree) -> PyTree:
    """The saved rows, which `SaveTimes` has in its state; None if only the end is saved."""
    return solver_state[1] if isinstance(solver_state, tuple) else None


def _with_core(progress: Progress, core: Array | None) -> Progress:
    """The same with this core in the state of the solver."""
    rows = _rows(progress.solver_state)
    state = core if rows is None else (core, rows)
    return eqx.tree_at(lambda p: p.solver_state, progress, state, is_leaf=_is_none)


@eqx.filter_custom_vjp
def _run(argument: _Argument, max_steps: int) -> Progress:
    return drain(argument.advance, argument.starts, argument.progress)[0]


@_run.def_fwd
def _run_forward(perturbed, argument: _Argument, max_steps: int):
    begun = argument.progress
    size, slots = begun.t.shape[0], _slots(_first(begun.state))

    def note(record, lanes, before, after, core):
        k = before.stats["num_accepted_steps"]
        accepted = after.stats["num_accepted_steps"] > k
        # Beyond the end means not at all.
        here = jnp.where(accepted, k, max_steps)
        kept = accepted & (k & _stride(k, slots) - 1 == 0)
        slot = jnp.where(kept, _slot(k, max_steps, slots), slots)
        return _Record(
            record.times.at[lanes, here].set(after.t, mode="drop"),
            *jax.tree.map(
                lambda rows, leaf: rows.at[lanes, slot].set(leaf, mode="drop"),
                (record.states, record.cores),
                (before.state, core),
            ),
        )

    _, core = jax.eval_shape(argument.advance, *_first((argument.starts, begun)))
    empty = _Record(
        jnp.zeros((size, max_steps), begun.t.dtype),
        *jax.tree.map(
            lambda leaf: jnp.zeros((size, slots, *leaf.shape), leaf.dtype),
            (_first(begun.state), core),
        ),
    )
    ended, record = drain(argument.advance, argument.starts, begun, empty, note)
    return ended, (record, ended.stats["num_accepted_steps"], ended.t)


@_run.def_bwd
def _run_backward(residuals, cotangents: Progress, perturbed, argument: _Argument, max_steps: int):
    record, count, last = residuals
    starts, begun = argument.starts, argument.progress
    size, slots = begun.t.shape[0], _slots(_first(begun.state))
    width = queue_width(size)
    moving, fixed = eqx.partition(argument.step, perturbed.step)
    moved, resting = eqx.partition(starts, perturbed.starts)
    # All lanes keep to the longest stride among them, so that they make steps again at once.
    stride = most(jnp.max(_stride(jnp.maximum(count - 1, 0), slots)))
    # Steps that are taken back between two looks at which lanes are free.
    span = jnp.maximum(stride, segment_length(size))
    longest = max(segment_length(size), 1 << ((max_steps - 1) // slots).bit_length())

    def segment(lanes, carry):
        left, state_bar, moved_bar, end_bar, moving_bar = carry
        ahead, lane_bars = left[lanes], at(lanes, (state_bar, moved_bar, end_bar))
        base = (jnp.maximum(ahead - 1, 0) // span) * span
        rows_bar, rows = at(lanes, (saved_bar, (moved, resting)))

        # Of steps base, base + 1, ...: whether each was made, whether its start is kept, and where.
        k = base[None] + jnp.arange(longest)[:, None]
        made = k < ahead[None]
        at_end = made & (k == count[lanes][None] - 1) & reached[lanes][None]
        k = jnp.where(made, k, 0)
        kept = k % stride == 0
        slot = _slot(jnp.where(kept, k, 0), max_steps, slots)
        t0 = jnp.where(k > 0, record.times[lanes[None], jnp.maximum(k - 1, 0)], 0)
        t1 = jnp.where(made, record.times[lanes[None], k], t0)
        first, start = at(lanes, begun.state), eqx.combine(*rows)

        # What each starts from. One that was not made is of no length, at the start: nothing can overflow.
        between = jax.tree.map(
            lambda rows, start: jnp.where(
                jnp.expand_dims(made, range(2, rows.ndim)), rows[lanes, slot], start
            ),
            record.states,
            first,
        )

        def found(i, state):
            if record.cores is None:
                return None
            assert argument.core is not None
            return side_by_side(argument.core, width)(start, state, t0[i], t1[i])

        def again(i, between):
            """Fills the place of a state that was not kept."""
            state = _step(i, between)
            core = found(i, state)
            # Through `jax.vjp`, for the step has a rule for reverse mode, and what is around it none.
            (after, _), _ = jax.vjp(
                lambda y: side_by_side(argument.step, width)(start, y, t0[i], t1[i], core), state
            )
            missing = made[i + 1] & ~kept[i + 1]
            return jax.tree.map(
                lambda leaf, row: leaf.at[i + 1].set(
                    jnp.where(_beside(missing, row), row, leaf[i + 1])
                ),
                between,
                after,
            )

        def core_of(i, state):
            # If only some were kept, none of them is used.
            if record.cores is None:
                return None
            return jax.lax.cond(
                stride == 1, lambda: record.cores[lanes, slot[i]], lambda: found(i, state)
            )

        def back(i, carry):
            (state_bar, moved_bar, end_bar), moving_bar, state = carry
            i = most_made - 1 - i
            core = core_of(i, state)

            def taken(moving, row, state, t1):
                lanes = side_by_side(eqx.combine(moving, fixed), width)
                return lanes(eqx.combine(row, rows[1]), state, t0[i], t1, core)

            if perturbed.starts.end:
                _, pull_back = jax.vjp(taken, moving, rows[0], state, t1[i])
            else:
                _, pull_back = jax.vjp(functools.partial(taken, t1=t1[i]), moving, rows[0], state)
            bars = jax.tree.map(
                lambda bar: jnp.where(_beside(made[i], bar), bar, 0), (state_bar, rows_bar)
            )
            more, row_bar, before_bar, *t1_bar = pull_back(bars)
            state_bar = jax.tree.map(
                lambda new, old: jnp.where(_beside(made[i], new), new, old), before_bar, state_bar
            )
            moved_bar = _sum(moved_bar, row_bar)
            for bar in t1_bar:
                end_bar = end_bar + jnp.where(at_end[i], bar, 0)
            # Fetched ahead, or each kernel that reads it would fetch it anew.
            state = _step(jnp.maximum(i - 1, 0), between)
            return (state_bar, moved_bar, end_bar), _sum(moving_bar, more), state

        most_made = most(jnp.max(ahead - base))
        between = jax.lax.fori_loop(0, jnp.where(stride > 1, most_made - 1, 0), again, between)
        state = _step(jnp.maximum(most_made - 1, 0), between)
        carry = (lane_bars, moving_bar, state)
        lane_bars, moving_bar, _ = jax.lax.fori_loop(0, most_made, back, carry)
        bars = put(lanes, (state_bar, moved_bar, end_bar), lane_bars)
        return left.at[lanes].set(base), *bars, moving_bar

    saved_bar = filled(_rows(cotangents.solver_state), _rows(begun.solver_state))
    reached = last == starts.end
    state_bar = filled(cotangents.state, begun.state)
    zeros = jax.tree.map(jnp.zeros_like, (moved, last, moving))
    carry = in_queue(segment, lambda carry: carry[0] > 0, (count, state_bar, *zeros), size)
    _, state_bar, starts_bar, end_bar, moving_bar = carry
    if cotangents.t is not None:
        end_bar = end_bar + jnp.where(reached, cotangents.t, 0)
    if starts_bar.end is not None:
        starts_bar = eqx.tree_at(lambda start: start.end, starts_bar, starts_bar.end + end_bar)
    none = jax.tree.map(lambda _: None, argument)
    begun_bar = eqx.tree_at(lambda p: p.state, none.progress, state_bar, is_leaf=_is_none)
    return none._replace(step=moving_bar, starts=starts_bar, progress=begun_bar)


def _reversible(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """The solver, for steps that are taken back."""
    if isinstance(solver, SaveTimes):
        return eqx.tree_at(lambda s: s.solver, solver, _reversible(solver.solver))
    assert isinstance(solver, AbstractRosenbrock)
    return dataclasses.replace(solver, reverse=True)


def _constant(leaf: Array) -> Array:
    """A leaf without derivative: of an integer out of a custom rule that is to be said too."""
    return jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf | leaf


def _is_none(leaf) -> bool:
    return leaf is None


def filled(cotangent: PyTree, like: PyTree) -> PyTree:
    """A cotangent with zeros where there is none."""
    return jax.tree.map(
        lambda leaf, ct: jnp.zeros_like(leaf) if ct is None else ct, like, cotangent
    )


def _sum(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, a, b)


def _beside(mask: Array, leaf: Array) -> Array:
    """A mask of the first axis of a leaf, with all its axes."""
    return jnp.expand_dims(mask, range(1, leaf.ndim))


def _slots(state: PyTree) -> int:
    """How many states of one flow are kept."""
    most_slots = max(SLOT_BYTES // max(_bytes(state), 1), 1)
    return min(SLOTS, 1 << most_slots.bit_length() - 1)


def _stride(k: Int[Array, "..."], slots: int) -> Int[Array, "..."]:
    """How far apart the states are that are kept when step k starts: a power of two."""
    return 1 << _stride_bits(k, slots)


def _stride_bits(k: Int[Array, "..."], slots: int) -> Int[Array, "..."]:
    # Shifts, for a division of integers takes several kernels.
    return _bits(k >> slots.bit_length() - 1)


def _bits(k: Int[Array, "..."]) -> Int[Array, "..."]:
    return 8 * k.dtype.itemsize - jax.lax.clz(k)


def _slot(k: Int[Array, "..."], max_steps: int, slots: int) -> Int[Array, "..."]:
    """Where state k is kept, a multiple of its stride.

    The first ones have slots of their own. After them each takes the slot of a state that is no multiple
    of the new stride: of 2^m q + 2^(m-1), the q-th of those.
    """
    for _ in range((max_steps // slots).bit_length()):
        bits = _stride_bits(k, slots)
        half = 1 << jnp.maximum(bits - 1, 0)
        k = jnp.where(k < slots, k, ((k - slots * half >> bits) << bits) + half)
    return k
