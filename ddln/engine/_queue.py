"""Scheduling of many integrations on a fixed number of vmapped lanes: a finished lane takes the next one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddln._numerics import max_over_vmap
from ddln._types import Array, Bool, Int, PyTree


class Queue(NamedTuple):
    """Numbers that decide how many integrations advance together; the results do not depend on them.

    Attributes:
        lanes: the most integrations that advance together.
        fewest: with fewer than twice as many integrations as lanes, fewer lanes, down to this number,
            so that some integrations wait for a lane.
        segment: steps between two looks at which lanes are free: a free lane idles for half as many.
        last_segment: the same if no integration waits.
        counted: whether all steps of a segment are made although every lane may have ended. A loop that
            ends early asks a condition before each step, for which an accelerator waits for the host.
    """

    lanes: int
    fewest: int
    segment: int
    last_segment: int
    counted: bool

    def width(self, size: int) -> int:
        """Number of lanes for `size` integrations."""
        return min(self.lanes, size, max(self.fewest, size // 2))

    def steps(self, size: int) -> int:
        """Number of steps that `size` integrations take between two looks at which lanes are free."""
        return self.segment if self.width(size) < size else self.last_segment

    def with_lanes(self, lanes: int) -> "Queue":
        """The queue with at most so many lanes."""
        return self._replace(lanes=lanes, fewest=min(lanes, self.fewest))

    def repeat(self, body: Callable, running: Callable, carry: PyTree, size: int) -> PyTree:
        """The carry after the steps of one segment, or of the part of it in which any lane runs."""
        steps = self.steps(size)
        if self.counted:
            return jax.lax.fori_loop(0, steps, lambda _, carry: body(carry), carry)
        return jax.lax.while_loop(
            lambda state: (state[0] < steps) & running(state[1]),
            lambda state: (state[0] + 1, body(state[1])),
            (0, carry),
        )[1]


# On a CPU a step costs in proportion to the number of lanes from 32 on. On an accelerator it costs the same
# up to some thousand lanes.
CPU_QUEUE = Queue(lanes=32, fewest=8, segment=8, last_segment=32, counted=False)
ACCELERATOR_QUEUE = Queue(lanes=8192, fewest=8192, segment=8, last_segment=8, counted=True)


def queue_of(platform: str) -> Queue:
    """The queue for a platform of JAX, such as "cpu"."""
    return CPU_QUEUE if platform == "cpu" else ACCELERATOR_QUEUE


def schedule(
    segment: Callable[[Int[Array, " lanes"], PyTree], PyTree],
    running: Callable[[PyTree], Bool[Array, " size"]],
    carry: PyTree,
    size: int,
    queue: Queue,
) -> PyTree:
    """Takes integrations 0 to `size` - 1 to their ends, as many at once as there are lanes.

    Args:
        segment: from the integrations in the lanes and the carry to the carry after some steps.
        running: from the carry to the integrations that have not ended.
        carry: the state of all integrations.
        size: the number of integrations.
        queue: how many of them advance together.
    """
    width = queue.width(size)

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
    queue: Queue,
    record: PyTree[Array] = None,
    record_step: Callable[..., PyTree[Array]] = lambda record, lanes, before, after, aux: record,
) -> tuple[Any, PyTree[Array]]:
    """Runs all integrations of a stack to their ends.

    Args:
        advance: `(inputs, state) -> (next_state, aux)`: one step of one integration.
        inputs: their constants, leading axis B.
        progress: their `StepperState`s, leading axis B.
        queue: how many of them advance together.
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
            before, record = carry
            after, aux = vmap_lanes(advance, lanes.size)(rows, before)
            return after, record_step(record, lanes, before, after, aux)

        def runs(carry):
            return any_running(carry[0].running)

        states, record = queue.repeat(body, runs, (states, record), size)
        return scatter(lanes, progress, states), record

    return schedule(segment, lambda carry: carry[0].running, (progress, record), size, queue)


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
