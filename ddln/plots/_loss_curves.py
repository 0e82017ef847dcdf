"""Losses along flows, with bounds."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from ddln.plots._axes import axes_or_new, drawable, legend_above
from ddln.plots._data import as_flows
from ddln.plots._style import looks, markers, style

BOUND_STYLES = ("--", ":", "-.")
# Gaps below this many units in the last place of the largest loss are not drawn.
ROUNDING = 10
# First marker of a curve and distance to the next, as parts of the diagonal of the axes.
MARKER_SPACING = (0.05, 0.15)
# Columns of the legend.
COLUMNS = 3


def loss_curves(
    trajectories: Any,
    minimum: float | ArrayLike,
    *,
    bounds: Mapping[str, Sequence[ArrayLike] | ArrayLike] | None = None,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the gap L(theta(t)) - L* of several flows over time, on a log scale.

    A gap below 10 eps * (largest loss of the flow) is noise of rounding: a curve, or a bound, ends
    where it first gets there. Colours and markers tell flows apart; solid lines are gaps, others
    are bounds.

    Example (Figure 4 of the source, with its Theorem 2):
        >>> problem, layers = ddln.problems.figure_4(jax.random.key(0))
        >>> loss, networks = problem.loss(scale=1.0), jax.vmap(ddln.DeepDiagonal)(layers)
        >>> ts = jnp.linspace(0.0, 1.0, 200)
        >>> flow = lambda network: ddln.gradient_flow(network, loss, t1=1.0, ts=ts, throw=False)
        >>> trajectories = jax.vmap(flow)(networks)
        >>> checks = jax.vmap(lambda flow: ddln.theory.pl_rate(flow, loss))(trajectories)
        >>> ddln.plots.loss_curves(trajectories, loss.minimum, bounds={"Theorem 2": checks.rhs})

    Args:
        trajectories: one flow, a batch of B flows (as `jax.vmap` returns it), a `ddln.SweepResult` or its
            `xarray.Dataset`, or a list of B flows, each saved at two times or more.
        minimum: L*, one number for all flows.
        bounds: upper bounds of the gap by name, each with one row of T values per flow, for its
            saved times: for example the `rhs` of `ddln.theory.pl_rate`.
        labels: a name for each flow; none are shown if not given.
        ax: the axes to draw on; None makes a new figure.

    Returns:
        The axes. The lines are the gaps of all flows, then the bounds, name after name.

    Raises:
        ValueError: if the numbers of labels or rows of a bound do not match, or fewer than two
            times of a flow were reached.

    Source: Labarrière et al. 2024, Theorem 2 and Figure 4.
    """
    curves = _curves(trajectories, minimum)
    if labels is not None and len(labels) != len(curves):
        raise ValueError(
            f"Argument `labels` must have one name for each of the {len(curves)} flows, "
            f"but it has {len(labels)}."
        )
    drawn = {name: _bound_rows(name, rows, curves) for name, rows in (bounds or {}).items()}

    with style():
        ax = axes_or_new(ax)
        appearances = [
            {"color": look["color"], "marker": marker, "markevery": MARKER_SPACING}
            for look, marker in zip(looks(len(curves)), markers(len(curves)), strict=True)
        ]
        entries: list[Line2D] = []
        for curve, look in zip(curves, appearances, strict=True):
            entries += ax.plot(curve.times, curve.visible(curve.gaps), linestyle="-", **look)
        if labels is None:
            entries = []
        for line, label in zip(entries, labels or (), strict=True):
            line.set_label(drawable(label))
        for (name, rows), dashes in zip(drawn.items(), cycle(BOUND_STYLES), strict=False):
            thin = {"linestyle": dashes, "linewidth": 0.8, "markersize": 3}
            for curve, row, look in zip(curves, rows, appearances, strict=True):
                ax.plot(curve.times, curve.visible(row), markerfacecolor="white", **thin, **look)
            entries.append(Line2D([], [], color="0.3", label=drawable(name), **thin))
        ax.set_yscale("log")
        ax.margins(x=0.015)
        ax.set_xlabel("time $t$")
        ax.set_ylabel(r"$\mathcal{L}(\theta(t)) - \mathcal{L}^*$")
        if entries:
            legend_above(ax, entries, COLUMNS)
    return ax


class _Curve(NamedTuple):
    """One flow: rows that were not reached are NaN."""

    times: np.ndarray
    gaps: np.ndarray
    floor: float

    def visible(self, values: np.ndarray) -> np.ndarray:
        """The values up to the first one below the floor, then NaN."""
        return np.where(np.logical_or.accumulate(values < self.floor), np.nan, values)


def _curves(trajectories, minimum) -> list[_Curve]:
    if np.ndim(minimum) != 0:
        raise ValueError(
            "Argument `minimum` must be a number, the same for all flows, "
            f"but it has shape {np.shape(minimum)}."
        )
    trajectories = as_flows(trajectories)
    if hasattr(trajectories, "loss"):
        trajectories = [trajectories]
    curves = []
    for trajectory in trajectories:
        eps = float(np.finfo(trajectory.loss.dtype).eps)
        all_times = np.atleast_2d(np.asarray(trajectory.ts, float))
        all_losses = np.atleast_2d(np.asarray(trajectory.loss, float))
        for times, losses in zip(all_times, all_losses, strict=True):
            reached = np.isfinite(times)
            if reached.sum() < 2:
                raise ValueError(
                    "Argument `trajectories` must be flows with two or more saved times that were "
                    f"reached, but flow {len(curves)} has {reached.sum()}. Pass `ts` to the flow."
                )
            floor = ROUNDING * eps * float(np.abs(losses[reached]).max())
            gaps = np.where(reached, losses - float(minimum), np.nan)
            curves.append(_Curve(np.where(reached, times, np.nan), gaps, floor))
    if not curves:
        raise ValueError("Argument `trajectories` must have one flow or more, but it is empty.")
    return curves


def _bound_rows(name: str, rows, curves: list[_Curve]) -> list[np.ndarray]:
    rows = [np.asarray(row, float) for row in rows]
    if [row.shape for row in rows] != [curve.times.shape for curve in curves]:
        raise ValueError(
            f"Argument `bounds[{name!r}]` must have one row for each of the {len(curves)} flows, "
            "with one value for each saved time, but it has rows of shapes "
            f"{[row.shape for row in rows]}."
        )
    return rows
