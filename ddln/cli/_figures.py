"""The figures of a run."""

import textwrap
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from ddln import plots
from ddln.cli._experiment import UNCONVERGED, Experiment, Outcome
from ddln.cli._output import ENDINGS, FIGURES, PAGE
from ddln.flows import Trajectory
from ddln.limits import minimum_l1, minimum_l2

DPI = 300
# Of the line below each figure that says what it is of, in points.
FONT_SIZE, LETTERS_PER_INCH = 6, 26


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
    }
    if _kept(outcomes):
        figures["phase"] = _phase(outcomes, experiment, depths)
    errors = [best for one in outcomes if (best := one.best_errors(split)) is not None]
    if errors:
        values = np.stack(errors).reshape(len(depths), -1, len(scales)).transpose(0, 2, 1)
        held_out = plots.scale_curves(scales, values, depths, label="best held-out error")
        held_out.set_yscale("log")
        figures["held_out"] = held_out.figure
    name_of_data = split.name.replace("$", r"\$")
    gaps = np.asarray(flows.loss)[:, -1] - split.minimum
    told = _captions(experiment, outcomes, gaps, names[_crossing(largest)])
    for name, figure in figures.items():
        _caption(figure, f"{name_of_data}, {told[name]}")
        for ending in ENDINGS:
            figure.savefig(out / f"{name}.{ending}", dpi=DPI)
    return [f"{name}.png" for name in figures]


def _caption(figure: Any, text: str) -> None:
    """Write a text below a figure, which grows by it."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(text, int(LETTERS_PER_INCH * width))
    figure.set_size_inches(width, height + 1.3 * FONT_SIZE / 72 * len(lines))
    with plots.style():
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=FONT_SIZE, color="0.3")


def _captions(
    experiment: Experiment, outcomes: list[Outcome], gaps: np.ndarray, coordinate: str
) -> dict[str, str]:
    """The line below each figure, by its name: the data, the flows, and what is averaged.

    `gaps` are the losses above the least one at the end of the example flows.
    """
    options, example = experiment.options, experiment.examples
    n, d = experiment.split.X.shape
    size, end = f"n = {n}, d = {d}", f"t1 = {experiment.t1:g}"
    lanes = np.asarray(example.lanes)
    scales = [f"{scale:.2g}" for scale in experiment.scales[lanes % len(experiment.scales)]]
    which, first = int(lanes[0]) // len(experiment.scales), "last layer 0, the others equal"
    start = f"initialization {which} ({'random' if which else first})"
    on = ["" if gap <= UNCONVERGED / 2 else ", not converged at t1" for gap in gaps]
    one = f"{size}, depth {example.starts.depth}, {start}"
    some, count, still = options.initializations, len(experiment.scales), ""
    where = f"{end}: one flow in each cell, where it is at t1"
    if "limits" in options.observe:
        where = "one flow in each cell, at t = infinity"
    elif any(outcome.unconverged[:count].any() for outcome in outcomes):
        still = "; circles: still on its way there"
    return {
        "layers": f"{one}, scale {scales[-1]}, {end}{on[-1]}: one flow at the coordinate {coordinate}.",
        "coefficients": f"{one}, scale {scales[0]}, {end}{on[0]}: one flow, every coefficient.",
        "loss": f"{one}, {end}: one flow for each scale; the least loss subtracted.",
        "phase": f"{size}, initialization 0 ({first}), {where}, over the norm of the solution{still}.",
        "held_out": f"{size}, {len(experiment.split.held_out_targets)} held out, {end}: the least error "
        f"until t1, "
        + (f"median and middle half of {some} initializations." if some > 1 else "one flow each."),
    }


def are_drawn(experiment: Experiment, out: Path) -> bool:
    """True if all figures of the experiment, and its page, are in the folder."""
    kept = set(experiment.options.observe)
    held_out = len(experiment.split.held_out_targets) and kept & {"theta", "errors"}
    without = {"held_out": not held_out, "phase": not kept & {"theta", "ends", "limits"}}
    names = [name for name in FIGURES if not without.get(name)]
    files = [f"{name}.{ending}" for name in names for ending in ENDINGS]
    return all((out / name).exists() for name in [*files, PAGE])


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


def _kept(outcomes: list[Outcome]) -> bool:
    """True if a theta of each flow was kept that the phase picture can show."""
    one, first = outcomes[0], slice(0, 1)
    return one.limits(first) is not None or one.ends(first) is not None


def _phase(outcomes: list[Outcome], experiment: Experiment, depths: list[int]) -> Any:
    """Relative distances, of the first initialization, to the l1 and l2 solutions.

    Those of the limits if they were kept, at which all flows have converged; else those of the ends.
    """
    split, lanes = experiment.split, slice(0, len(experiment.scales))
    limits = [outcome.limits(lanes) for outcome in outcomes]
    unconverged = None
    if limits[0] is None:
        limits = [outcome.ends(lanes) for outcome in outcomes]
        unconverged = np.stack([outcome.unconverged[lanes] for outcome in outcomes])
    ends = np.stack(limits)  # pyright: ignore
    distances = [
        np.linalg.norm(ends - reference, axis=-1) / np.linalg.norm(reference)
        for reference in (minimum_l1(split.X, split.y), minimum_l2(split.X, split.y))
    ]
    pair = plots.phase_pair(experiment.scales, depths, *distances, unconverged=unconverged)
    return pair[0].figure
