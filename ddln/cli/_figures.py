"""The figures of a run."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from ddln import plots
from ddln.cli._experiment import Experiment, Outcome
from ddln.cli._output import ENDINGS, FIGURES
from ddln.cli._tables import best_errors
from ddln.flows import Trajectory
from ddln.limits import minimum_l1, minimum_l2

DPI = 300


def draw(outcomes: list[Outcome], experiment: Experiment, out: Path) -> list[str]:
    """Draw all figures as PNG and PDF; the names of the PNG files."""
    plt.switch_backend("Agg")
    scales, split = experiment.scales, experiment.split
    depths = [outcome.depth for outcome in outcomes]
    example = experiment.examples
    flows, bounds = example.flows()
    smallest, largest = (jax.tree.map(lambda leaf, k=k: leaf[k], flows) for k in (0, -1))
    # Names from a file are literal: dollar signs are no formulas there.
    names = [name.replace("$", r"\$") for name in split.feature_names]
    # At the largest scale the layers are far enough apart to tell them from each other.
    layers = plots.layers(largest, _crossing(largest))
    _logarithmic_time(layers, largest.ts)
    figures = {
        "layers": layers.figure,
        "coefficients": plots.coefficient_paths(smallest, names=names).figure,
        "loss": _loss(flows, bounds, example.loss.minimum, scales[example.lanes % len(scales)]),
        "phase": _phase(outcomes, experiment, depths),
    }
    if len(split.held_out_targets):
        errors = np.stack([best_errors(one, split) for one in outcomes])
        errors = errors.reshape(len(depths), -1, len(scales)).transpose(0, 2, 1)
        held_out = plots.scale_curves(scales, errors, depths, label="best held-out error")
        held_out.set_yscale("log")
        figures["held_out"] = held_out.figure
    for name, figure in figures.items():
        for ending in ENDINGS:
            figure.savefig(out / f"{name}.{ending}", dpi=DPI)
    return [f"{name}.png" for name in figures]


def are_drawn(experiment: Experiment, out: Path) -> bool:
    """True if all figures of the experiment are in the folder."""
    names = FIGURES if len(experiment.split.held_out_targets) else FIGURES[:-1]
    return all((out / f"{name}.{ending}").exists() for name in names for ending in ENDINGS)


def _crossing(flow: Trajectory) -> int:
    """The coordinate that ends largest among those where a layer changes sign, or of all."""
    layers = np.asarray(jax.tree.leaves(flow.parameterization)[0])
    crossed = np.any(np.sign(layers[0]) != np.sign(layers[-1]), axis=0)
    size = np.abs(np.asarray(flow.theta[-1]))
    return int(np.argmax(np.where(crossed, size, -1.0 if crossed.any() else size)))


def _loss(flows: Trajectory, bounds: dict[str, Any], minimum: Any, scales: np.ndarray) -> Any:
    labels = [f"scale {scale:.2g}" for scale in scales]
    ax = plots.loss_curves(flows, minimum, bounds=bounds, labels=labels)
    _logarithmic_time(ax, flows.ts[0])
    return ax.figure


def _logarithmic_time(ax: Axes, ts: Any) -> None:
    ax.set_xscale("symlog", linthresh=float(ts[1]))


def _phase(outcomes: list[Outcome], experiment: Experiment, depths: list[int]) -> Any:
    """Relative distances of the ends, of the first initialization, to the l1 and l2 solutions."""
    split, count = experiment.split, len(experiment.scales)
    ends = np.stack([outcome.theta[:count, -1] for outcome in outcomes])
    unconverged = np.stack([outcome.unconverged[:count] for outcome in outcomes])
    distances = [
        np.linalg.norm(ends - reference, axis=-1) / np.linalg.norm(reference)
        for reference in (minimum_l1(split.X, split.y), minimum_l2(split.X, split.y))
    ]
    pair = plots.phase_pair(experiment.scales, depths, *distances, unconverged=unconverged)
    return pair[0].figure
