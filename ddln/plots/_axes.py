"""Axes to draw on, the legend above them, and labels at their right."""

from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.mathtext import MathTextParser
from numpy.typing import ArrayLike

POINTS_PER_INCH = 72
# From the right spine to a label, in points.
LABEL_DISTANCE = 10
# Ratio of the line height to the font size.
LINE_SPACING = 1.25


def axes_or_new(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure in the present style."""
    if ax is not None:
        return ax
    ax = plt.figure().add_subplot()
    keep_tick_spacing(ax)
    return ax


def keep_tick_spacing(ax: Axes) -> None:
    """Ticks are spaced for the label size that is set, else for that of the style at drawing."""
    ax.tick_params(labelsize=mpl.rcParams["xtick.labelsize"])


def drawable(label: object) -> str:
    """A label as text, with its dollar signs literal if what they enclose is no formula.

    Matplotlib raises an error on such a text when it draws the figure, long after it was given.
    """
    text = str(label)
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return text.replace(r"\$", "$").replace("$", r"\$")
    return text


def legend_above(ax: Axes, handles: Sequence[Artist], columns: int) -> None:
    """Put a legend above the axes, where it covers no data."""
    # Matplotlib fills a legend column by column; this order reads row by row.
    rows = [handle for column in range(columns) for handle in handles[column::columns]]
    ax.legend(handles=rows, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns)


def label_right(ax: Axes, heights: ArrayLike, texts: Sequence, colors: Sequence) -> None:
    """Write a label beside the right end of each curve, moved up or down so that none overlap.

    A short stroke of the curve's colour joins the two; the text is black, as pale letters are hard
    to read. The heights are in data coordinates; call this when all data is drawn.
    """
    fontsize = mpl.rcParams["legend.fontsize"]
    ax.autoscale_view()
    box = ax.get_window_extent()
    scale = POINTS_PER_INCH / ax.figure.dpi
    heights = np.asarray(heights, float)
    order = np.argsort(heights, kind="stable")
    points = np.column_stack([np.zeros(len(order)), heights[order]])
    wanted = (ax.transData.transform(points)[:, 1] - box.y0) * scale
    placed = spread(wanted, LINE_SPACING * fontsize, box.height * scale)
    for curve, shift in zip(order, placed - wanted, strict=True):
        ax.annotate(
            drawable(texts[curve]),
            xy=(1, heights[curve]),
            xycoords=ax.get_yaxis_transform(),
            xytext=(LABEL_DISTANCE, shift),
            textcoords="offset points",
            fontsize=fontsize,
            verticalalignment="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colors[curve],
                "linewidth": 1,
                "shrinkA": 1,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )


def spread(wanted: np.ndarray, spacing: float, height: float) -> np.ndarray:
    """The positions closest to the ascending `wanted`, in least squares, that are `spacing` apart.

    They lie in [0, height] where there is room. Position r minus r * spacing has to ascend: this is
    an isotonic regression, solved by pooling neighbours that do not.
    """
    steps = spacing * np.arange(len(wanted))
    pools: list[tuple[float, int]] = []
    for value in wanted - steps:
        mean, count = float(value), 1
        while pools and pools[-1][0] >= mean:
            last_mean, last_count = pools.pop()
            mean = (last_mean * last_count + mean * count) / (last_count + count)
            count += last_count
        pools.append((mean, count))
    ascending = np.array([mean for mean, count in pools for _ in range(count)])
    return np.clip(ascending, 0, max(0, height - spacing * (len(wanted) - 1))) + steps
