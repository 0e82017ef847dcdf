"""The layers of a deep diagonal network along a flow."""

import numpy as np
from matplotlib.axes import Axes

from ddln.flows import Trajectory
from ddln.parameterizations import DeepDiagonal
from ddln.plots._axes import axes_or_new, label_right
from ddln.plots._data import reached
from ddln.plots._style import GREY, looks, style


def layers(trajectory: Trajectory, coordinate: int = 0, *, ax: Axes | None = None) -> Axes:
    """Draw the layers u^1_i(t), ..., u^L_i(t) at one coordinate i over time.

    The layer that is smallest in absolute value at the start is drawn bold: no other one can change
    its sign. With a tie none is bold, and none can. A circle marks each change of sign, at the time
    where the line between two saved values is zero.

    Example:
        >>> ts = jnp.linspace(0.0, 2.0, 400)
        >>> trajectory = ddln.gradient_flow(network, loss, t1=2.0, ts=ts)
        >>> ddln.plots.layers(trajectory, coordinate=0)

    Args:
        trajectory: a flow of a `ddln.DeepDiagonal`, saved at two times or more.
        coordinate: the index i, counted from 0.
        ax: the axes to draw on; None makes a new figure.

    Returns:
        The axes. The lines are the layers in their order, then the zero line, then the markers of
        the changes of sign, if there are any.

    Raises:
        ValueError: if the trajectory is not one of a deep diagonal network, or has fewer than two
            rows; if there is no such coordinate.

    Source: Labarrière et al. 2024, Proposition 1 and Figure 3.
    """
    if not isinstance(trajectory.initial, DeepDiagonal):
        raise ValueError(
            "Argument `trajectory` must be a flow of a `ddln.DeepDiagonal`, "
            f"but it is one of a {type(trajectory.initial).__name__}."
        )
    rows = reached(trajectory)
    start = np.asarray(trajectory.initial.layers)
    if not -start.shape[1] <= coordinate < start.shape[1]:
        raise ValueError(
            f"Argument `coordinate` must be below the {start.shape[1]} coordinates of the network, "
            f"but it is {coordinate}."
        )
    times = np.asarray(trajectory.ts)[rows]
    values = np.asarray(trajectory.parameterization.layers)[rows, :, coordinate].T  # pyright: ignore
    sizes = np.abs(start[:, coordinate])
    smallest = np.flatnonzero(sizes == sizes.min())

    with style():
        ax = axes_or_new(ax)
        lines = [
            ax.plot(times, layer, **look)[0]
            for layer, look in zip(values, looks(len(values)), strict=True)
        ]
        names = [f"$u^{{{number}}}$" for number in range(1, len(lines) + 1)]
        if smallest.size == 1:
            lines[smallest[0]].set(linestyle="-", linewidth=2.4, zorder=3)
            names[smallest[0]] += " (smallest)"
        ax.axhline(0, color=GREY, linewidth=0.6, linestyle="-", zorder=0)
        crossings = np.concatenate([sign_changes(times, layer) for layer in values])
        if crossings.size:
            ax.plot(
                crossings,
                np.zeros_like(crossings),
                linestyle="none",
                marker="o",
                markerfacecolor="white",
                markeredgecolor="black",
                zorder=4,
            )
        ax.set_xlim(times[0], times[-1])
        ax.set_xlabel("time $t$")
        ax.set_ylabel("layers $u^j(t)$")
        label_right(ax, values[:, -1], names, [line.get_color() for line in lines])
    return ax


def sign_changes(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The times where the line through the values changes its sign; leaving zero is no change."""
    known = np.flatnonzero(values != 0)
    before, after = known[:-1], known[1:]
    change = values[before] * values[after] < 0
    before, after = before[change], after[change]
    share = values[before] / (values[before] - values[after])
    return times[before] + share * (times[after] - times[before])
