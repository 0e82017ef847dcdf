"""The loop of training in discrete time: many small steps, saved rows, lanes that end early."""

import abc
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import default_platform, max_over_vmap
from ddln._types import Array, Bool, Float, Int, PyTree

# The longest scan: reverse mode keeps all states of one, and the first state of each scan inside it.
LONGEST_SCAN = 100


class AbstractStep(eqx.Module):
    """One step of an algorithm, with the arrays it needs."""

    @abc.abstractmethod
    def __call__(self, k: Int[Array, ""], state: PyTree[Array]) -> PyTree[Array]:
        """The state after step k, k = 0, 1, ..."""

    @abc.abstractmethod
    def is_finite(self, state: PyTree[Array]) -> Bool[Array, ""]:
        """Test whether a state may be kept. Where it may not, it may not after further steps either."""

    @abc.abstractmethod
    def is_last(self, k: Int[Array, ""], state: PyTree[Array]) -> Bool[Array, ""] | None:
        """Test whether to stop at this state, before step k; None if only `steps` stops the loop."""

    @abc.abstractmethod
    def saved(self, state: PyTree[Array]) -> PyTree[Array]:
        """The part of a state that a saved row holds."""


class Iterates(eqx.Module):
    """The outcome of the steps.

    Attributes:
        rows: the saved states, leading axis T; the last iterate where a row was not reached.
        count: the number of steps taken.
        stopped: whether `is_last` ended them.
        diverged: whether the next state would not have been finite.
    """

    rows: PyTree[Array]
    count: Int[Array, ""]
    stopped: Bool[Array, ""]
    diverged: Bool[Array, ""]


class _Carry(NamedTuple):
    """The carry from step to step, or its tangent."""

    state: PyTree[Array]
    rows: PyTree[Array]
    count: Int[Array, ""]
    stopped: Bool[Array, ""]
    diverged: Bool[Array, ""]

    @property
    def ended(self) -> Bool[Array, ""]:
        return self.stopped | self.diverged


class _Numbers(NamedTuple):
    """Numbers of steps, and the rows that their states are saved in.

    Attributes:
        k: the number of the step.
        wanted: whether there is such a step: scans may be a little too long.
        due: whether the state after it is saved.
        slot: the row.
    """

    k: Int[Array, "..."]
    wanted: Bool[Array, "..."]
    due: Bool[Array, "..."]
    slot: Int[Array, "..."]


def iterate(
    step: AbstractStep,
    state: PyTree[Array],
    steps: int,
    ts: Float[Array, " T"] | None,
    startable: Bool[Array, ""],
) -> Iterates:
    """Takes `steps` steps, or fewer, and saves the states at `ts`, or the last one.

    A scan of scans, each a checkpoint of reverse mode: memory for (levels) * `LONGEST_SCAN` states,
    not for `steps`. Lanes under `jax.vmap` share the loop. One that has ended keeps its state and
    its derivative; when all have, the rest is skipped. A step that leads to a state that is not
    finite is not taken, and does not enter a derivative.
    """
    saved = step.saved(state)
    rows = None
    if ts is not None:
        rows = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, ts.shape + leaf.shape), saved)
    carry = _Carry(
        state=state,
        rows=rows,
        count=jnp.zeros((), jnp.int32),
        stopped=~startable,
        diverged=jnp.zeros((), bool),
    )
    size = min(steps, LONGEST_SCAN)
    shape = _shape(-(-steps // size))
    firsts = size * jnp.arange(math.prod(shape), dtype=jnp.int32).reshape(shape)
    carry = _nested_scan(
        lambda carry, first: _block(step, carry, _numbers(first, size, steps, ts)), carry, firsts
    )
    met = step.is_last(carry.count, carry.state)
    met = jnp.zeros((), bool) if met is None else met & ~carry.diverged
    last = step.saved(carry.state)
    if ts is None:
        rows = jax.tree.map(lambda leaf: leaf[None], last)
    else:
        # Of equal entries of `ts` the first has the row.
        first, reached = jnp.searchsorted(ts, ts), ts <= carry.count.astype(ts.dtype)
        rows = jax.tree.map(
            lambda row, leaf: jax.vmap(jnp.where, (0, 0, None))(reached, row[first], leaf),
            carry.rows,
            last,
        )
    return Iterates(rows, carry.count, startable & (carry.stopped | met), carry.diverged)


def _numbers(
    first: Int[Array, ""], count: int, steps: int, ts: Float[Array, " T"] | None
) -> _Numbers:
    """The numbers of the steps of a block."""
    k = first + jnp.arange(count, dtype=jnp.int32)
    wanted, due, slot = k < steps, jnp.zeros_like(k, bool), jnp.zeros_like(k)
    if ts is not None:
        after = (k + 1).astype(ts.dtype)
        slot = jnp.minimum(jnp.searchsorted(ts, after), ts.shape[0] - 1).astype(k.dtype)
        due = ts[slot] == after
    return _Numbers(k, wanted, due, slot)


def _shape(size: int) -> tuple[int, ...]:
    """Nearly equal lengths, none above `LONGEST_SCAN`, whose product is `size` or a little more."""
    axes = 1
    while LONGEST_SCAN**axes < size:
        axes += 1
    shape = []
    for left in range(axes, 0, -1):
        length = next(a for a in range(1, LONGEST_SCAN + 1) if a**left >= size)
        shape.append(length)
        size = -(-size // length)
    return tuple(shape)


def _nested_scan(take: Callable, carry: _Carry, firsts: Int[Array, "..."]) -> _Carry:
    """Scans over all axes of the numbers of the first steps of blocks."""

    def body(carry, firsts):
        return (
            take(carry, firsts) if firsts.ndim == 0 else _nested_scan(take, carry, firsts)
        ), None

    # Inside of a scan nothing can be moved out of the checkpoint.
    return jax.lax.scan(eqx.filter_checkpoint(body, prevent_cse=False), carry, firsts)[0]


@eqx.filter_custom_jvp
def _block(step: AbstractStep, carry: _Carry, numbers: _Numbers) -> _Carry:
    """Run a block optimistically, checking finiteness at its end only.

    If a lane diverged, rerun the block with a check after every step. Saved rows are in no branch, which
    would copy them: the rows of the first run are right up to the divergence.
    """
    needed = _is_needed(carry, numbers)
    # None of the steps, or all.
    trips = jnp.where(needed, numbers.k.shape[0], 0)
    if _is_watched(step, carry):
        return _steps_one_by_one(step, carry, numbers, trips)
    new = _steps_together(step, carry, numbers, trips)
    start, end = (c._replace(rows=None) for c in (carry, new))
    end = jax.lax.cond(
        needed & _is_in_trouble(step, carry, new, numbers),
        lambda _: _steps_one_by_one(step, start, numbers),
        lambda end: end,
        end,
    )
    return end._replace(rows=new.rows)


@_block.def_jvp
def _block_jvp(primals, tangents):
    """The derivative of the steps that are taken.

    Where a lane runs along after its end derivatives may be infinite, and reverse mode would
    multiply them by zero. So tangents are set to zero before they enter as well as after.
    """
    step, carry, numbers = primals
    state_tangent = tangents[1].state
    one_by_one = jnp.ones((), bool)
    if not _is_watched(step, carry):
        new = _steps_together(step, carry, numbers)
        one_by_one = _is_in_trouble(step, carry, new, numbers)

    def taken(step, state, rows):
        return jax.lax.cond(
            _is_needed(carry, numbers),
            lambda c: jax.lax.cond(
                one_by_one,
                lambda c: _steps_one_by_one(step, c, numbers),
                lambda c: _steps_together(step, c, numbers),
                c,
            ),
            lambda c: c,
            _Carry(state, rows, carry.count, carry.stopped, carry.diverged),
        )

    new, pushed = _filtered_jvp(
        taken,
        (step, carry.state, carry.rows),
        (*_masked(~carry.ended, (tangents[0], state_tangent)), tangents[1].rows),
    )
    state = jax.tree.map(
        lambda t, kept: t if kept is None else jnp.where(carry.ended, kept, t),
        pushed.state,
        state_tangent,
        is_leaf=_is_none,
    )
    return new, pushed._replace(state=state)


def _is_watched(step: AbstractStep, carry: _Carry) -> bool:
    """Test whether an event, and not only their number, may end the steps."""
    return step.is_last(carry.count, carry.state) is not None


def _is_needed(carry: _Carry, numbers: _Numbers) -> Bool[Array, ""]:
    """Test whether a lane has not ended before a block."""
    return max_over_vmap(~carry.ended) & numbers.wanted[0]


def _is_in_trouble(
    step: AbstractStep, carry: _Carry, new: _Carry, numbers: _Numbers
) -> Bool[Array, ""]:
    """Test whether a lane has diverged in a block, or some of its steps are not wanted."""
    return max_over_vmap(~carry.ended & ~step.is_finite(new.state)) | ~numbers.wanted[-1]


def _steps_together(
    step: AbstractStep, carry: _Carry, numbers: _Numbers, trips: Int[Array, ""] | None = None
) -> _Carry:
    """The steps of a block. Lanes that have ended run along, and their state is put back."""

    def body(state_and_rows, numbers):
        state, rows = state_and_rows
        state = _like(step(numbers.k, state), state)
        kept = (carry.ended, carry.state)
        return state, _saved(step, state, rows, numbers, kept)

    state, rows = _loop(body, (carry.state, carry.rows), numbers, trips)
    count = numbers.k.shape[0] if trips is None else trips
    return _Carry(
        state=_select(carry.ended, carry.state, state),
        rows=rows,
        count=carry.count + jnp.where(carry.ended, 0, count).astype(jnp.int32),
        stopped=carry.stopped,
        diverged=carry.diverged,
    )


def _steps_one_by_one(
    step: AbstractStep, carry: _Carry, numbers: _Numbers, trips: Int[Array, ""] | None = None
) -> _Carry:
    """The steps of a block, each taken only if it is wanted and leads to a finite state."""

    def body(carry, numbers):
        going = ~carry.ended & numbers.wanted
        met = step.is_last(numbers.k, carry.state)
        stopped = carry.stopped if met is None else carry.stopped | (going & met)
        state, finite = _guarded(step, numbers.k, carry.state, going & ~stopped)
        return _Carry(
            state=state,
            rows=_saved(step, state, carry.rows, numbers),
            count=carry.count + (going & ~stopped & finite).astype(jnp.int32),
            stopped=stopped,
            diverged=carry.diverged | (going & ~stopped & ~finite),
        )

    return _loop(body, carry, numbers, trips)


def _loop(body, carry, numbers: _Numbers, trips: Int[Array, ""] | None):
    """A scan, or a number of trips of it, all or none, which has no reverse mode."""

    def scan(carry):
        return jax.lax.scan(lambda c, numbers: (body(c, numbers), None), carry, numbers)[0]

    if trips is None:
        return scan(carry)
    if not _asks_freely():
        return jax.lax.cond(trips > 0, scan, lambda carry: carry, carry)
    # In no branch, which would copy the rows.
    return jax.lax.fori_loop(
        0, trips, lambda i, c: body(c, jax.tree.map(lambda leaf: leaf[i], numbers)), carry
    )


def _asks_freely() -> bool:
    """True where a condition costs nothing: an accelerator waits for the host before each."""
    return default_platform() == "cpu"


def _saved(
    step: AbstractStep,
    state: PyTree[Array],
    rows: PyTree[Array],
    numbers: _Numbers,
    ended: tuple[Bool[Array, ""], PyTree[Array]] | None = None,
) -> PyTree[Array]:
    """The rows with the state in its slot, if it is due; for an ended lane with the one it kept."""
    if rows is None:
        return None

    def write(rows):
        kept = step.saved(state if ended is None else _select(ended[0], ended[1], state))
        if not _asks_freely():
            present = jax.tree.map(lambda row: row[numbers.slot], rows)
            kept = _select(numbers.due, kept, present)
        return jax.tree.map(
            lambda row, leaf: jax.lax.dynamic_update_index_in_dim(row, leaf, numbers.slot, 0),
            rows,
            kept,
        )

    if not _asks_freely():
        return write(rows)
    return jax.lax.cond(numbers.due, write, lambda rows: rows, rows)


@eqx.filter_custom_jvp
def _guarded(
    step: AbstractStep, k: Int[Array, ""], state: PyTree[Array], advance: Bool[Array, ""]
) -> tuple[PyTree[Array], Bool[Array, ""]]:
    """The state after a step, or the same one where it is not to advance or not finite after it."""
    new = step(k, state)
    finite = step.is_finite(new)
    return _select(advance & finite, new, state), finite


@_guarded.def_jvp
def _guarded_jvp(primals, tangents):
    step, k, state, advance = primals
    finite = step.is_finite(step(k, state))
    taken = advance & finite
    new, pushed = _filtered_jvp(
        lambda step, state: step(k, state),
        (step, state),
        _masked(taken, (tangents[0], tangents[2])),
    )
    kept = jax.tree.map(
        lambda t, leaf, kept: (
            None if t is None else jnp.where(taken, t, 0 if kept is None else kept)
        ),
        pushed,
        state,
        tangents[2],
        is_leaf=_is_none,
    )
    return (_select(taken, new, state), finite), (kept, None)


def _filtered_jvp(function, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    """`jax.jvp` in the leaves that have a tangent; None for the tangents of integers."""
    moving, fixed = eqx.partition(primals, jax.tree.map(_is_not_none, tangents, is_leaf=_is_none))

    def of_moving(moving):
        out = function(*eqx.combine(moving, fixed))
        return eqx.partition(out, eqx.is_inexact_array)

    real, pushed, rest = jax.jvp(of_moving, (moving,), (tangents,), has_aux=True)
    return eqx.combine(real, rest), pushed


def _masked(mask: Bool[Array, ""], tangents: PyTree[Array]) -> PyTree[Array]:
    return jax.tree.map(lambda t: jnp.where(mask, t, 0), tangents)


def _select(mask: Bool[Array, ""], new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    return jax.tree.map(lambda a, b: jnp.where(mask, a.astype(b.dtype), b), new, old)


def _like(new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """Optimizers may return weak types, which a loop does not carry."""
    return jax.tree.map(lambda a, b: a.astype(b.dtype), new, old)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _is_not_none(leaf: Any) -> bool:
    return leaf is not None
