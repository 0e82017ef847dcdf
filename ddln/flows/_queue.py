"""Many flows through few lanes: a lane whose flow has ended takes the next one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from ddln._types import Array, Bool, Int, PyTree
from ddln.flows._segments import Progress

# Lanes advanced together. On a CPU a step costs in proportion to their number from here on.
WIDTH = 32
# With fewer than twice as many flows, fewer lanes, down to this number, so that there is a queue.
NARROW = 8
# Steps between two looks at which lanes are free: a free lane idles for half as many.
SEGMENT = 8
# The same if no flow waits for a lane.
LONG_SEGMENT = 32


def queue_width(size: int) -> int:
    """How many lanes so many flows go through."""
    return min(WIDTH, size, max(NARROW, size // 2))


def segment_length(size: int) -> int:
    """How many steps so many flows take at once."""
    return SEGMENT if queue_width(size) < size else LONG_SEGMENT


def in_queue(
    segment: Callable[[Int[Array, " lanes"], PyTree], PyTree],
    running: Callable[[PyTree], Bool[Array, " size"]],
    carry: PyTree,
    size: int,
) -> PyTree:
    """Takes flows 0 to `size` - 1 to their ends, as many at once as there are lanes.

    Args:
        segment: from the flows that are in the lanes and the carry to the carry, after some steps.
        running: from the carry to which flows have not ended.
        carry: what is known of all flows.
        size: how many there are.
    """
    width = queue_width(size)

    def body(state):
        carry, lanes, waiting = state
        carry = segment(lanes, carry)
        # A free lane for which no flow is left stays with its own, which has ended.
        free = ~running(carry)[lanes]
        # As many as there are free lanes before each: for so few, cheaper than `jnp.cumsum`.
        candidates = waiting + jnp.sum(jnp.tril(jnp.broadcast_to(free, (width, width)), -1), axis=1)
        lanes = jnp.where(free & (candidates < size), candidates, lanes)
        return carry, lanes, waiting + jnp.sum(free)

    start = (carry, jnp.arange(width), jnp.asarray(width))
    carry, _, _ = jax.lax.while_loop(lambda state: any_running(running(state[0])), body, start)
    return carry


def drain(
    advance: Callable[[PyTree, Progress], tuple[Progress, PyTree[Array]]],
    starts: PyTree[Array],
    progress: Progress,
    record: PyTree[Array] = None,
    note: Callable[..., PyTree[Array]] = lambda record, lanes, before, after, more: record,
) -> tuple[Progress, PyTree[Array]]:
    """Runs all flows of a stack to their ends.

    Args:
        advance: makes one step of one flow: from what it starts from and where it stands to where it
            stands then, and what more there is to note.
        starts: what they start from, leading axis B.
        progress: where they stand, leading axis B.
        record: what is known before the first step.
        note: from the record, the flows in the lanes, where these stood and stand, and what more there is
            to note, to the record.

    Returns:
        Where they end, and the record.
    """
    size = progress.t.shape[0]

    def segment(lanes, carry):
        progress, record = carry
        rows, states = at(lanes, (starts, progress))

        def body(carry):
            i, before, record = carry
            after, more = side_by_side(advance, lanes.size)(rows, before)
            return i + 1, after, note(record, lanes, before, after, more)

        _, states, record = jax.lax.while_loop(
            lambda carry: (carry[0] < segment_length(size)) & any_running(carry[1].running),
            body,
            (0, states, record),
        )
        return put(lanes, progress, states), record

    return in_queue(segment, lambda carry: carry[0].running, (progress, record), size)


def at(lanes: Int[Array, " lanes"], tree: PyTree) -> PyTree:
    """The rows of these flows."""
    return jax.tree.map(lambda leaf: leaf[lanes], tree)


def put(lanes: Int[Array, " lanes"], tree: PyTree, rows: PyTree) -> PyTree:
    """The tree with these rows for these flows."""
    return jax.tree.map(lambda leaf, row: leaf.at[lanes].set(row), tree, rows)


def side_by_side(function: Callable, width: int) -> Callable:
    """`jax.vmap` of a function over so many lanes."""
    if width > 1:
        return jax.vmap(function)

    # Kernels that know of no lanes are fewer.
    def alone(*arguments):
        result = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
        return jax.tree.map(lambda leaf: leaf[None], result)

    return alone


def any_running(running: Bool[Array, " lanes"]) -> Bool[Array, ""]:
    return most(jnp.any(running).astype(int)) > 0


@custom_vmap
def most(count: Array) -> Array:
    """The largest under every `jax.vmap`: the same for all, so that a loop's condition is one."""
    return count


@most.def_vmap
def _most_of_all(size, batched, count):
    return most(jnp.max(count, axis=0)), False
