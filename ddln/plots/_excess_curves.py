"""The approach to the smallest l1 norm, measured and predicted."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from ddln.plots._axes import axes_or_new, drawable, legend_above
from ddln.plots._data import grid, sweep_values
from ddln.plots._style import looks, markers, style

# Columns of the legend.
COLUMNS = 4


def excess_curves(
    scales: ArrayLike,
    excess: ArrayLike,
    predicted: ArrayLike,
    depths: ArrayLike,
    *,
    label: str = r"excess of the $\ell_1$ norm",
    ax: Axes | None = None,
) -> Axes:
    """Draw the excess of the l1 norm against the scale of initialization, with its predicted law.

    Both axes are logarithmic, so that a power of the scale is a straight line. Markers are measured
    values, lines predicted ones. Values that are not positive, NaN or infinite are left out.

    Example (3 starts for each depth; the weighted l1 norm, which random starts approach):
        >>> excess[i, :, j] = ddln.excess_l1(ends, X, y, ddln.l1_weights(network))
        >>> predicted[i, :, j] = ddln.excess_law(network, loss, scales)
        >>> ddln.plots.excess_curves(scales, excess, predicted, [2, 3, 4, 6])

    Args:
        scales: the scales of initialization, positive and increasing, two or more, shape [scale].
        excess: the excess, as `ddln.excess_l1` gives it, shape [depth, scale, start].
        predicted: its leading term, as `ddln.excess_law` gives it, shape [depth, scale, start].
        depths: the depths L, shape [depth].
        label: the quantity, at the y axis.
        ax: the axes to draw on; None makes a new figure.

    Returns:
        The axes. The lines are, depth after depth and start after start, the measured (markers) and
        the predicted values.

    Raises:
        ValueError: if the scales are not positive and increasing, the depths are not whole, or the
            shape of the values is another.
    """
    scales, depths = grid(scales, depths)
    measured, law = (
        np.where(values > 0, values, np.nan)
        for values in (
            sweep_values("excess", excess, "depth scale start", depths, scales),
            sweep_values("predicted", predicted, "depth scale start", depths, scales),
        )
    )
    if measured.shape != law.shape:
        raise ValueError(
            f"Arguments `excess` and `predicted` must have the same shape, but they have "
            f"{measured.shape} and {law.shape}."
        )
    with style():
        ax = axes_or_new(ax)
        entries = []
        appearances = zip(looks(depths.size), markers(depths.size), strict=True)
        for row, (look, marker) in enumerate(appearances):
            color = look["color"]
            for start in range(measured.shape[2]):
                ax.plot(
                    scales,
                    measured[row, :, start],
                    color=color,
                    linestyle="none",
                    marker=marker,
                    markerfacecolor="white",
                    zorder=3,
                )
                ax.plot(scales, law[row, :, start], linewidth=0.8, **look)
            entry = Line2D([], [], label=f"$L = {depths[row]}$", linewidth=0.8, **look)
            entry.set(marker=marker, markerfacecolor="white")
            entries.append(entry)
        ax.set_xscale("log")
        ax.set_yscale("log")
        known = measured[~np.isnan(measured)]
        if known.size:
            # The law continues below what can be measured, and above where it holds.
            ax.set_ylim(known.min() / 3, known.max() * 3)
        ax.margins(x=0.02)
        ax.set_xlabel("scale of initialization")
        ax.set_ylabel(drawable(label))
        legend_above(ax, entries, min(len(entries), COLUMNS))
    return ax
