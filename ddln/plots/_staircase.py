"""The path of vanishing initialization, from saddle to saddle."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from ddln.limits import VanishingLimit
from ddln.plots._axes import axes_or_new, label_right, legend_above
from ddln.plots._data import numbers
from ddln.plots._style import GREY, looks, style

# Time shown after the last jump, as a part of the time until then.
AFTER = 0.25


def staircase(
    path: VanishingLimit,
    times: ArrayLike | None = None,
    theta: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    labelled: int = 7,
    ax: Axes | None = None,
) -> Axes:
    """Draw each coefficient theta_i on the plateaus of vanishing initialization, and of a flow.

    The steps are the limit, dotted in black where a flow is drawn with it, from a small but positive
    scale. The coefficients that become largest are coloured and named at the right; others, and those that
    stay at zero, are grey.

    Example (three layers, scale 1e-2, times in units of alpha^-1):
        >>> path = ddln.vanishing_limit(network, loss)
        >>> small = ddln.DeepDiagonal(1e-2 * network.layers)
        >>> flow = ddln.gradient_flow(small, loss, t1, ts=ts)
        >>> ddln.plots.staircase(path, 1e-2 * flow.ts, flow.theta)

    Args:
        path: one path, as `ddln.vanishing_limit` returns it.
        times: the times of a flow in the unit of the path: t / log(1/alpha) for L = 2, t alpha^(L-2)
            for L >= 3, shape [T].
        theta: its effective parameter, shape [T, d].
        names: a name for each coefficient; theta_0, theta_1, ... if not given.
        labelled: how many coefficients to name.
        ax: the axes to draw on; None makes a new figure.

    Returns:
        The axes. The lines are the steps in the order of the coefficients, then those of the flow, if
        there is one, then the zero line.

    Raises:
        ValueError: if the path is a batch, only one of `times` and `theta` is given or their shapes do
            not fit, or the number of names does not match.
    """
    ts = np.asarray(path.ts, float)
    if ts.ndim != 1:
        raise ValueError(
            f"Argument `path` must be one path, but its `ts` has shape {ts.shape}. "
            "Take one of the batch: `jax.tree.map(lambda leaf: leaf[0], path)`."
        )
    rows = np.isfinite(ts)
    ts, plateaus = ts[rows], np.asarray(path.theta, float)[rows].reshape(rows.sum(), -1)
    count = plateaus.shape[1]
    if names is None:
        names = [rf"$\theta_{{{index}}}$" for index in range(count)]
    if len(names) != count:
        raise ValueError(
            f"Argument `names` must have one name for each of the {count} coefficients, "
            f"but it has {len(names)}."
        )
    if (times is None) != (theta is None):
        raise ValueError("Arguments `times` and `theta` must be given together, or not at all.")
    end = (1 + AFTER) * (ts[-1] if ts[-1] > 0 else 1)
    edges = np.append(ts, end)
    steps = np.concatenate([plateaus, plateaus[-1:]])
    last, flow = plateaus[-1], None
    if times is not None:
        times, theta = numbers("times", times, "T"), numbers("theta", theta, "T d")
        if theta.shape != (times.size, count):
            raise ValueError(
                f"Argument `theta` must have the shape ({times.size}, {count}) of times and "
                f"coefficients, but it has shape {theta.shape}."
            )
        shown = times <= end
        flow = times[shown], theta[shown]
    sizes = np.abs(plateaus).max(axis=0)
    largest = np.argsort(-sizes, kind="stable")[:labelled]
    largest = largest[sizes[largest] > 0]

    with style():
        ax = axes_or_new(ax)
        colors = ["0.8"] * count
        for index, look in zip(largest, looks(len(largest)), strict=True):
            colors[index] = look["color"]
        front = [2 if index in largest else 1 for index in range(count)]
        for index in range(count):
            dots = {"color": colors[index], "linestyle": "-", "linewidth": 1.2}
            if flow is not None:
                dots = {"color": "black", "linestyle": (0, (1, 1.5)), "linewidth": 0.8}
            # Above the flow, but not where a coefficient stays at zero.
            zorder = 3 if flow is not None and steps[:, index].any() else front[index]
            ax.step(edges, steps[:, index], where="post", zorder=zorder, **dots)
        if flow is not None:
            for index in range(count):
                look = {"color": colors[index], "zorder": front[index]}
                ax.plot(flow[0], flow[1][:, index], linestyle="-", linewidth=1.2, **look)
            dots = Line2D([], [], color="black", linestyle=(0, (1, 1.5)), linewidth=0.8)
            dots.set_label("vanishing initialization")
            legend_above(ax, [dots], 1)
        ax.axhline(0, color=GREY, linewidth=0.6, linestyle="-", zorder=0)
        ax.set_xlim(0, end)
        ax.set_xlabel(r"rescaled time $\tau$")
        ax.set_ylabel(r"$\theta_i(\tau)$")
        label_right(
            ax,
            last[largest],
            [names[index] for index in largest],
            [colors[index] for index in largest],
        )
    return ax
