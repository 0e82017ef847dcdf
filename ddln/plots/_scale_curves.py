"""A summary of a sweep against the scale of initialization."""

from typing import Any

from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ddln.plots._axes import axes_or_new, drawable, legend_above
from ddln.plots._data import (
    grid,
    labelled,
    quantiles,
    require_label,
    spans_decades,
    sweep_values,
)
from ddln.plots._style import looks, markers, style

# Columns of the legend.
COLUMNS = 4


def scale_curves(
    scales: Any,
    values: Any = None,
    depths: ArrayLike | None = None,
    *,
    label: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw a number that sums up each run against the initialization's scale, one curve per depth.

    A curve is the median over the seeds, its band the middle half of them (quartiles). Runs that
    failed, NaN or infinite, are left out. The y axis is logarithmic if all values are positive and
    span more than a factor of 100.

    Example (the held-out error of a sweep over 3 depths, 20 scales and 10 seeds):
        >>> errors.shape
        (3, 20, 10)
        >>> ddln.plots.scale_curves(scales, errors, [2, 3, 4], label="held-out error")

    Args:
        scales: the scales of initialization, positive and increasing, two or more, shape [scale]. Or an
            `xarray.Dataset` of a sweep, or an array of one, over depth, scale and more: its values at the
            last saved time, of lanes that did not fail.
        values: the numbers, shape [depth, scale, seed]; the name of a variable of the dataset.
        depths: the depths L, shape [depth]; not with labelled data.
        label: the quantity, at the y axis; the name of labelled data if not given.
        ax: the axes to draw on; None makes a new figure.

    Returns:
        The axes. The lines are the medians in the order of the depths, the collections the bands.

    Raises:
        ValueError: if the scales are not positive and increasing, the depths are not whole, the shape of
            the values is another, or nothing names them.
    """
    if hasattr(scales, "dims"):
        scales, depths, values, name = labelled(scales, values)
        label = label or name
    require_label(label)
    scales, depths = grid(scales, depths)
    values = sweep_values("values", values, "depth scale seed", depths, scales)
    # Where all seeds failed, the curve has a hole.
    low, median, high = quantiles(values, [0.25, 0.5, 0.75])

    with style():
        ax = axes_or_new(ax)
        lines = []
        appearances = zip(looks(depths.size), markers(depths.size), strict=True)
        for row, (look, marker) in enumerate(appearances):
            color = look["color"]
            name = f"$L = {depths[row]}$"
            lines += ax.plot(scales, median[row], label=name, marker=marker, **look)
            ax.fill_between(scales, low[row], high[row], color=color, alpha=0.2, linewidth=0)
        ax.set_xscale("log")
        if spans_decades(values):
            ax.set_yscale("log")
        ax.margins(x=0.02)
        ax.set_xlabel("scale of initialization")
        ax.set_ylabel(drawable(label))
        legend_above(ax, lines, min(len(lines), COLUMNS))
    return ax
