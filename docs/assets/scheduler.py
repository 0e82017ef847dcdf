"""Simulates a sweep over many workers: the figure of "A billion initializations".

`python docs/assets/scheduler.py` draws it and prints the table. What is simulated is the protocol of
`ddln.sweeps`: the driver holds two tasks for each worker that has answered and two more; a worker that
lacks the data says so, and its task is sent again with them; driver and scheduler handle one message at
a time.
"""

import heapq
from collections import deque
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

FOLDER = Path(__file__).parent
LANES = 10**9


class Costs(NamedTuple):
    """In seconds.

    Attributes:
        lane: of one flow of case H on one core.
        spread: standard deviation of the time of a chunk over its mean.
        message: of a task in the driver and the scheduler together, one after the other.
        latency: from driver to worker and back.
        start: until a worker that got the data computes, with a compilation cache.
    """

    lane: float = 2.3e-3
    spread: float = 0.1
    message: float = 4e-3
    latency: float = 2e-3
    start: float = 5.0


def simulate(workers: int, chunk: int, costs: Costs, seed: int = 0) -> tuple[float, float]:
    """The hours that a sweep takes, and the share of the workers' time that goes into flows."""
    chunks = -(-LANES // chunk)
    rng = np.random.default_rng(seed)
    mean = chunk * costs.lane
    durations = iter(np.maximum(rng.normal(mean, costs.spread * mean, chunks), 0.1 * mean))
    idle, queued = deque(range(workers)), deque()
    knows, answered = np.zeros(workers, bool), set()
    # Events: answers that reach the driver. It is busy until `free`.
    events: list[tuple[float, int, int, bool]] = []
    number, left, in_flight, free, busy = 0, chunks, 0, 0.0, 0.0

    def begin(worker: int, time: float, data: bool) -> None:
        nonlocal number, busy
        number += 1
        if not (knows[worker] or data):
            heapq.heappush(events, (time + costs.latency, number, worker, False))
            return
        length = next(durations)
        busy += length
        wait = 0.0 if knows[worker] else costs.start
        knows[worker] = True
        heapq.heappush(events, (time + costs.latency + wait + length, number, worker, True))

    def submit(data: bool) -> None:
        nonlocal free, in_flight
        free += costs.message / 2
        in_flight += 1
        if idle:
            begin(idle.popleft(), free, data)
        else:
            queued.append(data)

    def fill() -> None:
        nonlocal left
        while left and in_flight < 2 * len(answered) + 2:
            left -= 1
            submit(False)

    fill()
    while events:
        time, _, worker, computed = heapq.heappop(events)
        # The worker takes its next task from the scheduler, before the driver has seen its answer.
        if queued:
            begin(worker, time, queued.popleft())
        else:
            idle.append(worker)
        free = max(free, time) + costs.message / 2
        in_flight -= 1
        answered.add(worker)
        if not computed:
            submit(True)
        fill()
    return free / 3600, busy / (free * workers)


def main() -> None:
    costs = Costs()
    counts = np.unique(np.geomspace(1, 10**4, 13).astype(int))
    _, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    for chunk, style in ((1024, ":"), (8192, "-"), (32768, "--")):
        found = np.array([simulate(int(workers), chunk, costs) for workers in counts])
        label = f"chunks of {chunk} lanes, {chunk * costs.lane:.0f} s"
        ax.plot(counts, 100 * found[:, 1], style, label=label)
        for workers in (100, 1000, 10**4):
            hours, share = simulate(workers, chunk, costs)
            print(f"| {chunk} | {workers} | {hours:.2f} | {100 * share:.0f} % |")
    ax.set(xscale="log", xlabel="workers", ylabel="time spent in flows, %", ylim=(0, 103))
    ax.legend(frameon=False, loc="lower left")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    plt.savefig(FOLDER / "scheduler-utilization.png", dpi=200)


if __name__ == "__main__":
    main()
