"""Many flows through few lanes: a lane whose flow has ended takes the next one."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln.flows._segments import Progress, SegmentedFlow, Start

# Lanes advanced together. On a CPU a step costs in proportion to their number from here on.
WIDTH = 32
# With fewer than twice as many flows, fewer lanes, down to this number, so that there is a queue.
NARROW = 8
# Steps between two looks at which lanes are free: a free lane idles for half as many.
SEGMENT = 8


def queue_width(size: int) -> int:
    """How many lanes so many flows go through."""
    return min(WIDTH, size, max(NARROW, size // 2))


def drain(flow: SegmentedFlow, starts: Start, progress: Progress) -> Progress:
    """Runs all flows of a stack to their ends.

    Args:
        flow: how to run one.
        starts: what they start from, leading axis B.
        progress: where they stand, leading axis B.

    Returns:
        Where they end.
    """
    size = progress.t.shape[0]
    arrays, static = eqx.partition(starts, eqx.is_array)

    def step(row, state):
        return flow.step(eqx.combine(row, static), state)

    def segment(carry):
        progress, lanes, waiting = carry
        rows, states = jax.tree.map(lambda leaf: leaf[lanes], (arrays, progress))
        _, states = jax.lax.while_loop(
            lambda carry: (carry[0] < SEGMENT) & jnp.any(carry[1].running),
            lambda carry: (carry[0] + 1, jax.vmap(step)(rows, carry[1])),
            (0, states),
        )
        progress = jax.tree.map(lambda leaf, new: leaf.at[lanes].set(new), progress, states)
        # A free lane for which no flow is left stays with its own, which has ended.
        free = ~states.running
        candidates = waiting + jnp.cumsum(free) - 1
        lanes = jnp.where(free & (candidates < size), candidates, lanes)
        return progress, lanes, waiting + jnp.sum(free)

    width = queue_width(size)
    start = (progress, jnp.arange(width), jnp.asarray(width))
    ended, _, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[0].running), segment, start)
    return ended
