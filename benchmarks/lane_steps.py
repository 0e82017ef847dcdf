"""How many steps the queue of a sweep makes, from the numbers of steps of its lanes."""

import numpy as np

from ddln.engine._queue import CPU_QUEUE


def batched_steps(steps: np.ndarray) -> int:
    """Steps of all lanes together, useful or not: the schedule of `ddln.engine._queue`."""
    left = np.array(steps)
    lanes = np.arange(CPU_QUEUE.width(len(left)))
    waiting = len(lanes)
    count = 0
    while left.any():
        count += min(CPU_QUEUE.segment, int(left[lanes].max()))
        left[lanes] = np.maximum(left[lanes] - CPU_QUEUE.segment, 0)
        free = np.flatnonzero(left[lanes] == 0)[: len(left) - waiting]
        lanes[free] = np.arange(waiting, waiting + len(free))
        waiting += len(free)
    return count
