"""The end of the training time at which the slowest flows of a sweep have converged."""

import dataclasses
import math

import numpy as np

from ddln.cli._experiment import UNCONVERGED, Experiment
from ddln.cli._options import SweepOptions
from ddln.sweeps import Initializations, SweepResult, sweep

# Flows are followed up to this time, and saved so often for each power of ten.
LATEST, SAVES = 1e15, 10
# Initializations that are tried at the smallest scale.
TRIED = 8
# The end is so many times later than the time found.
MARGIN = 2.0
ROUND = (1, 2, 5, 10)


def end_time(experiment: Experiment) -> float:
    """A round time by which flows of the smallest scale have converged, at every depth.

    Flows are slowest there: they leave the saddle at zero at a time that grows as the scale vanishes.

    Args:
        experiment: with any end of its time.

    Raises:
        ValueError: if one does not converge before its integration fails, or before 1e15.
    """
    options = dataclasses.replace(experiment.options, t1=LATEST)
    last = max(_converged(Experiment(experiment.split, options), d) for d in options.depths)
    power = 10.0 ** math.floor(math.log10(MARGIN * last))
    return next(factor * power for factor in ROUND if factor * power >= MARGIN * last)


def chosen(options: SweepOptions, experiment: Experiment) -> str:
    """A line on the time that was chosen."""
    return (
        f"--t1 auto: {options.t1:g}, by when the flows of the smallest scale, "
        f"{experiment.scales[0]:g}, have converged."
    )


def _converged(experiment: Experiment, depth: int) -> float:
    """The first time at which all flows tried have converged."""
    options, starts = experiment.options, experiment.starts(depth)
    count = min(options.initializations, TRIED)
    decades = np.log10(LATEST) + 3
    ts = np.concatenate([[0.0], np.geomspace(1e-3, LATEST, round(SAVES * decades))])
    result = sweep(
        Initializations(lambda index: starts(index * options.scale_count), count),
        experiment.loss,
        experiment.t1,
        ts=ts.astype(options.precision),
        rtol=options.rtol,
        atol=options.atol,
        max_steps=options.max_steps,
        observe=lambda flow: flow.loss[-1],
        progress=False,
    )
    gap = 2 * (np.asarray(result.loss) - experiment.split.minimum)
    there = gap <= UNCONVERGED
    for lane in np.flatnonzero(~there.any(axis=1)):
        _refuse(result, int(lane), depth, experiment.scales[0])
    return float(ts[there.argmax(axis=1)].max())


def _refuse(result: SweepResult, lane: int, depth: int, scale: float) -> None:
    reasons = {int(failed): why for why, lanes in result.failures().items() for failed in lanes}
    times = np.asarray(result.ts)[lane]
    reached = times[np.isfinite(times)].max(initial=0)
    raise ValueError(
        f"Option --t1 auto finds no time by which the flow of depth {depth} from scale {scale:g}, "
        f"initialization {lane}, has converged: it was followed to {reached:.2g}. "
        f"{reasons.get(lane, '')} Give --t1 a number, or raise the smallest of --scales."
    )
