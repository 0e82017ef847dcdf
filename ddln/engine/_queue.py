"""Scheduling of many integrations on a fixed number of vmapped lanes: a finished lane takes the next one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddln._numerics import max_over_vmap
from ddln._types import Array, Bool, Int, PyTree

# Lanes advanced together. On a CPU a step costs in proportion to their number from here on.
WIDTH = 32
# With fewer than twice as many integrations, fewer lanes, down to this number, so that there is a queue.
NARROW = 8
# Steps between two looks at which lanes are free: a free lane idles for half as many.
SEGMENT = 8
# The same if no integration waits for a lane.
LONG_SEGMENT = 32


def queue_width(size: int) -> int:
    """Number of lanes for `size` integrations."""
    return min(WIDTH, size, max(NARROW, size // 2))


def segment_length(size: int) -> int:
    """Number of steps that `size` integrations take between two looks at which lanes are free."""
    return SEGMENT if queue_width(size) < size else LONG_SEGMENT


def schedule(
    segment: Callable[[Int[Array, " lanes"], PyTree], PyTree],
    running: Callable[[PyTree], Bool[Array, " size"]],
    carry: PyTree,
    size: int,
) -> PyTree:
    """Takes integrations 0 to `size` - 1 to their ends, as many at once as there are lanes.

    Args:
        segment: from the integrations in the lanes and the carry to the carry after some steps.
        running: from the carry to the integrations that have not ended.
        carry: the state of all integrations.
        size: the number of integrations.
    """
    width = queue_width(size)

    def body(state):
        carry, lanes, waiting = state
        carry = segment(lanes, carry)
        # A free lane for which nothing is left stays with its own integration, which has ended.
        free = ~running(carry)[lanes]
        # The number of free lanes before each: for so short a list cheaper than `jnp.cumsum`.
        candidates = waiting + jnp.sum(jnp.tril(jnp.broadcast_to(free, (width, width)), -1), axis=1)
        lanes = jnp.where(free & (candidates < size), candidates, lanes)
        return carry, lanes, waiting + jnp.sum(free)

    start = (carry, jnp.arange(width), jnp.asarray(width))
    carry, _, _ = jax.lax.while_loop(lambda state: any_running(running(state[0])), body, start)
    return carry


def integrate_all(
    advance: Callable[[PyTree, Any], tuple[Any, PyTree[Array]]],
    inputs: PyTree[Array],
    progress: Any,
    record: PyTree[Array] = None,
    record_step: Callable[..., PyTree[Array]] = lambda record, lanes, before, after, aux: record,
) -> tuple[Any, PyTree[Array]]:
    """Runs all integrations of a stack to their ends.

    Args:
        advance: `(inputs, state) -> (next_state, aux)`: one step of one integration.
        inputs: their constants, leading axis B.
        progress: their `StepperState`s, leading axis B.
        record: the record before the first step.
        record_step: from the record, the integrations in the lanes, their states before and after a
            step, and `aux`, to the record.

    Returns:
        The final states, and the record.
    """
    size = progress.t.shape[0]

    def segment(lanes, carry):
        progress, record = carry
        rows, states = gather(lanes, (inputs, progress))

        def body(carry):
            i, before, record = carry
            after, aux = vmap_lanes(advance, lanes.size)(rows, before)
            return i + 1, after, record_step(record, lanes, before, after, aux)

        _, states, record = jax.lax.while_loop(
            lambda carry: (carry[0] < segment_length(size)) & any_running(carry[1].running),
            body,
            (0, states, record),
        )
        return scatter(lanes, progress, states), record

    return schedule(segment, lambda carry: carry[0].running, (progress, record), size)


def gather(lanes: Int[Array, " lanes"], tree: PyTree) -> PyTree:
    """The rows of the integrations in the lanes."""
    return jax.tree.map(lambda leaf: leaf[lanes], tree)


def scatter(lanes: Int[Array, " lanes"], tree: PyTree, rows: PyTree) -> PyTree:
    """The tree with these rows for the integrations in the lanes."""
    return jax.tree.map(lambda leaf, row: leaf.at[lanes].set(row), tree, rows)


def vmap_lanes(function: Callable, width: int) -> Callable:
    """`jax.vmap` of a function over `width` lanes."""
    if width > 1:
        return jax.vmap(function)

    # Without a batch axis XLA emits fewer kernels.
    def alone(*arguments):
        result = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
        return jax.tree.map(lambda leaf: leaf[None], result)

    return alone


def any_running(running: Bool[Array, " lanes"]) -> Bool[Array, ""]:
    """Test whether an integration runs, over all enclosing `vmap` axes."""
    return max_over_vmap(jnp.any(running))
