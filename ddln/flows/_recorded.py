"""Flows that record their steps, so that reverse mode goes back through the same ones."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from ddln._types import Array, Float, Int, PyTree
from ddln.flows._segments import Progress, SegmentedFlow, Start

# States that are kept of a flow, a power of two. Of more steps every second one is kept, or every fourth,
# and so on; those between are made again.
SLOTS = 256


class _Argument(NamedTuple):
    """What a run is made of. `advance` and `step` have all that they close over as leaves.

    Attributes:
        advance: makes the next step, of a length it chooses.
        step: from a state, between two times: the state after it, and its part of the saved rows.
        progress: where the run begins; differentiated in its state and rows.
        end: when it ends.
    """

    advance: Callable[[Progress], Progress]
    step: Callable[[PyTree, Array, Array], tuple[PyTree, PyTree]]
    progress: Progress
    end: Float[Array, ""]


class _Record(NamedTuple):
    """The ends of the accepted steps, and the states that some of them start from."""

    times: Float[Array, " steps"]
    states: PyTree[Float[Array, "slots ..."]]


def run_to_end(flow: SegmentedFlow, start: Start, progress: Progress) -> Progress:
    """All steps of a flow by a solver that keeps no state; differentiable in reverse mode.

    The steps are chosen once and recorded. Reverse mode goes back through those that were accepted, their
    lengths held fixed: a step that is made again from a recorded state is the same one up to rounding.
    Checkpoints of a loop that chooses its steps again would not do: rounding changes the choice, and the
    pieces of the path do not fit together.
    """

    def step(state, t0, t1):
        parts = flow.parts(start)
        empty = jax.lax.stop_gradient(progress.solver_state)
        after, _, _, inner, _ = parts.solver.step(
            parts.term, t0, t1, state, None, empty, made_jump=False
        )
        return after, _rows(inner)

    def advance(progress):
        return flow.step(start, progress)

    argument = _Argument(
        advance=eqx.filter_closure_convert(advance, progress),
        step=eqx.filter_closure_convert(step, progress.state, progress.t, progress.t),
        progress=progress,
        end=start.end,
    )
    run, ts = _run(argument, flow.max_steps), flow.parts(start).ts
    ended = eqx.tree_at(
        lambda p: (p.t, p.state, p.solver_state),
        jax.tree.map(_constant, run),
        (run.t, run.state, run.solver_state),
        is_leaf=_is_none,
    )
    if ts is None:
        return ended
    # No step has the rows at the start.
    later = ts > 0
    rows = jax.tree.map(
        lambda row, first: jnp.where(jnp.expand_dims(later, range(1, row.ndim)), row, first[None]),
        _rows(ended.solver_state),
        progress.state,
    )
    return eqx.tree_at(lambda p: p.solver_state, ended, (None, rows), is_leaf=_is_none)


def _rows(solver_state: PyTree) -> PyTree:
    """The saved rows, which `SaveTimes` has in its state; None if only the end is saved."""
    return None if solver_state is None else solver_state[1]


@eqx.filter_custom_vjp
def _run(argument: _Argument, max_steps: int) -> Progress:
    return jax.lax.while_loop(
        lambda progress: _most(progress.running.astype(int)) > 0,
        lambda progress: argument.advance(progress),
        argument.progress,
    )


@_run.def_fwd
def _run_forward(perturbed, argument: _Argument, max_steps: int):
    def body(carry):
        before, record = carry
        after = argument.advance(before)
        k = before.stats["num_accepted_steps"]
        accepted = after.stats["num_accepted_steps"] > k
        # Beyond the end means not at all.
        here = jnp.where(accepted, k, max_steps)
        slot = jnp.where(accepted & (k % _stride(k) == 0), _slot(k, max_steps), SLOTS)
        return after, _Record(
            record.times.at[here].set(after.t, mode="drop"),
            jax.tree.map(
                lambda rows, leaf: rows.at[slot].set(leaf, mode="drop"), record.states, before.state
            ),
        )

    begun = argument.progress
    empty = _Record(jnp.zeros(max_steps, begun.t.dtype), _buffer(begun.state, SLOTS))
    ended, record = jax.lax.while_loop(
        lambda carry: _most(carry[0].running.astype(int)) > 0, body, (begun, empty)
    )
    return ended, (record, ended.stats["num_accepted_steps"], ended.t)


@_run.def_bwd
def _run_backward(residuals, cotangents: Progress, perturbed, argument: _Argument, max_steps: int):
    record, count, last = residuals
    begun, step = argument.progress, argument.step
    state_bar = filled(cotangents.state, begun.state)
    rows_bar = filled(_rows(cotangents.solver_state), _rows(begun.solver_state))
    moving, fixed = eqx.partition(step, perturbed.step)
    # All lanes keep to the longest stride among them, so that they make steps again at once.
    stride = _most(_stride(jnp.maximum(count - 1, 0)))
    longest = 1 << ((max_steps - 1) // SLOTS).bit_length()

    def between(k):
        k = jnp.clip(k, 0, jnp.maximum(count - 1, 0))
        return jnp.where(k > 0, record.times[jnp.maximum(k - 1, 0)], 0), record.times[k]

    def back(k, state, carry):
        state_bar, moving_bar, end_bar = carry
        t0, t1 = between(k)

        def taken(moving, state, t1):
            return eqx.combine(moving, fixed)(state, t0, t1)

        _, pull_back = jax.vjp(taken, moving, state, t1)
        more, before_bar, t1_bar = pull_back((state_bar, rows_bar))
        active = k < count
        at_end = (k == count - 1) & (last == argument.end)
        return (
            _select(active, before_bar, state_bar),
            jax.tree.map(lambda a, b: a + jnp.where(active, b, 0), moving_bar, more),
            end_bar + jnp.where(at_end, t1_bar, 0),
        )

    def segment(i, carry):
        base = (segments - 1 - i) * stride
        states = _buffer(begun.state, longest)
        first = jax.tree.map(lambda leaf: leaf[_slot(base, max_steps)], record.states)
        states = _put(states, 0, first)

        def again(i, states):
            state = jax.tree.map(lambda leaf: leaf[i], states)
            return _put(states, i + 1, step(state, *between(base + i))[0])

        states = jax.lax.fori_loop(0, stride - 1, again, states)

        def one(i, carry):
            i = stride - 1 - i
            return back(base + i, jax.tree.map(lambda leaf: leaf[i], states), carry)

        return jax.lax.fori_loop(0, stride, one, carry)

    segments = -(-_most(count) // stride)
    carry = (state_bar, jax.tree.map(jnp.zeros_like, moving), jnp.zeros_like(last))
    state_bar, moving_bar, end_bar = jax.lax.fori_loop(0, segments, segment, carry)
    if cotangents.t is not None:
        end_bar = end_bar + jnp.where(last == argument.end, cotangents.t, 0)
    advance_bar, begun_bar = jax.tree.map(lambda _: None, (argument.advance, begun))
    begun_bar = eqx.tree_at(lambda p: p.state, begun_bar, state_bar, is_leaf=_is_none)
    return _Argument(advance_bar, moving_bar, begun_bar, end_bar)


@custom_vmap
def _most(count: Array) -> Array:
    """The largest in any lane: the same for all of them, so that a loop's condition is one."""
    return count


@_most.def_vmap
def _most_of_lanes(size, batched, count):
    return _most(jnp.max(count, axis=0)), False


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


def _select(mask: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), new, old)


def _buffer(state: PyTree, size: int) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape), leaf.dtype), state)


def _put(rows: PyTree, i: Int[Array, ""] | int, state: PyTree) -> PyTree:
    return jax.tree.map(lambda row, leaf: row.at[i].set(leaf), rows, state)


def _stride(k: Int[Array, ""]) -> Int[Array, ""]:
    """How far apart the states are that are kept when step k starts: a power of two."""
    return 1 << _bits(k // SLOTS)


def _bits(k: Int[Array, ""]) -> Int[Array, ""]:
    return 8 * k.dtype.itemsize - jax.lax.clz(k)


def _slot(k: Int[Array, ""], max_steps: int) -> Int[Array, ""]:
    """Where state k is kept, a multiple of its stride.

    The first ones have slots of their own. After them each takes the slot of a state that is no multiple
    of the new stride: of 2^m q + 2^(m-1), the q-th of those.
    """
    for _ in range((max_steps // SLOTS).bit_length()):
        half = jnp.maximum(_stride(k) // 2, 1)
        k = jnp.where(k < SLOTS, k, half * (2 * ((k - SLOTS * half) // (2 * half)) + 1))
    return k
