"""Phase pictures of sweeps: a colour for the value at each scale and depth."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike

from ddln.plots._axes import axes_or_new, drawable, keep_tick_spacing
from ddln.plots._data import (
    grid,
    labelled,
    quantiles,
    require_label,
    spans_decades,
    sweep_values,
)
from ddln.plots._style import style

HATCH = "//////"


def phase(
    scales: Any,
    depths: ArrayLike | None = None,
    values: Any = None,
    *,
    label: str = "",
    unconverged: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a value of each run of a sweep as a colour, over scale of initialization and depth.

    The colours are logarithmic if all values are positive and span more than a factor of 100. Runs
    that failed, NaN or infinite, are hatched; a circle marks those that had not converged.

    Example (how far each run ends from the solution of smallest l1 norm):
        >>> distances = jnp.abs(result.theta[:, -1] - l1_solution).sum(axis=-1)
        >>> ddln.plots.phase(scales, [2, 3, 4], distances.reshape(3, -1), label="distance")

    and of the results of `ddln sweep`:
        >>> ddln.plots.phase(xarray.open_zarr("results.zarr"), values="loss")

    Args:
        scales: the scales of initialization, positive and increasing, two or more, shape [scale]. Or an
            `xarray.Dataset` of a sweep, or an array of one, over depth, scale and more: the median of its
            values at the last saved time, of lanes that did not fail.
        depths: the depths L, one row of the picture each, from below, shape [depth]; not with labelled data.
        values: the values, shape [depth, scale]; the name of a variable of the dataset.
        label: the quantity, beside the colour bar; the name of labelled data if not given.
        unconverged: whether each run was still on its way at its end, shape [depth, scale].
        ax: the axes to draw on; None makes a new figure.

    Returns:
        The axes of the picture. Its first collection has the colours.

    Raises:
        ValueError: if the scales are not positive and increasing, the depths are not whole, the shape of
            the values is another, or nothing names them.
    """
    if hasattr(scales, "dims"):
        scales, depths, values, name = labelled(scales, values)
        values, label = quantiles(values.astype(float), 0.5), label or name
    require_label(label)
    scales, depths = grid(scales, depths)
    values = sweep_values("values", values, "depth scale", depths, scales)
    marked = _marked(unconverged, depths, scales)
    with style():
        ax = axes_or_new(ax)
        norm = _norm(values)
        _draw_cells(ax, scales, depths, values, norm, marked)
        ax.set_ylabel("depth $L$")
        _draw_bar(norm, label, ax)
    return ax


def phase_pair(
    scales: ArrayLike,
    depths: ArrayLike,
    to_l1: ArrayLike,
    to_l2: ArrayLike,
    *,
    label: str = "distance",
    unconverged: ArrayLike | None = None,
) -> tuple[Axes, Axes]:
    """Draw where a sweep ends near the solution of smallest l1 norm, and where near the l2 one.

    Two pictures as `phase` draws them, side by side in a new figure, with the same colours.

    Args:
        scales: the scales of initialization, positive and increasing, two or more, shape [scale].
        depths: the depths L, shape [depth].
        to_l1: distances to the solution of smallest l1 norm, shape [depth, scale].
        to_l2: distances to the solution of smallest l2 norm, shape [depth, scale].
        label: the quantity, beside the colour bar.
        unconverged: whether each run was still on its way at its end, shape [depth, scale]; such
            runs have a circle.

    Returns:
        The axes of the two pictures.

    Raises:
        ValueError: as for `phase`.
    """
    scales, depths = grid(scales, depths)
    pair = [
        sweep_values(name, value, "depth scale", depths, scales)
        for name, value in (("to_l1", to_l1), ("to_l2", to_l2))
    ]
    marked = _marked(unconverged, depths, scales)
    with style():
        figure = plt.figure(figsize=(6.75, 2.0))
        left, right = figure.subplots(1, 2, sharey=True)
        norm = _norm(np.stack(pair))
        for ax, values, name in zip((left, right), pair, (r"\ell_1", r"\ell_2"), strict=True):
            keep_tick_spacing(ax)
            _draw_cells(ax, scales, depths, values, norm, marked)
            ax.set_title(f"to the solution of smallest ${name}$ norm", loc="left")
        left.set_ylabel("depth $L$")
        _draw_bar(norm, label, [left, right])
    return left, right


def _norm(values: np.ndarray) -> Normalize:
    known = values[~np.isnan(values)]
    if known.size == 0:
        return Normalize(0, 1)
    return (LogNorm if spans_decades(values) else Normalize)(known.min(), known.max())


def _marked(unconverged: ArrayLike | None, depths: np.ndarray, scales: np.ndarray) -> np.ndarray:
    if unconverged is None:
        return np.zeros((depths.size, scales.size), bool)
    return sweep_values("unconverged", unconverged, "depth scale", depths, scales).astype(bool)


def _draw_cells(
    ax: Axes,
    scales: np.ndarray,
    depths: np.ndarray,
    values: np.ndarray,
    norm: Normalize,
    marked: np.ndarray,
) -> None:
    """One cell per run: its scale in the middle, on the log axis; one row per depth."""
    middles = np.sqrt(scales[:-1] * scales[1:])
    edges = np.concatenate(
        [[scales[0] ** 2 / middles[0]], middles, [scales[-1] ** 2 / middles[-1]]]
    )
    rows = np.arange(depths.size + 1) - 0.5
    # Without edges of their own colour, vector viewers show white seams between cells.
    ax.pcolormesh(edges, rows, values, norm=norm, edgecolors="face", linewidth=0.1)
    failed = np.argwhere(np.isnan(values))
    look = {"facecolor": "white", "edgecolor": "0.35", "linewidth": 0, "hatch": HATCH}
    for row, column in failed:
        left, right = float(edges[column]), float(edges[column + 1])
        ax.add_patch(Rectangle((left, float(rows[row])), right - left, 1, **look))
    ax.set_xscale("log")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(rows[0], rows[-1])
    ax.set_yticks(np.arange(depths.size), [str(depth) for depth in depths])
    ax.set_xlabel("scale of initialization")
    handles: list[Artist] = []
    if failed.size:
        handles.append(Patch(**(look | {"label": "failed", "linewidth": 0.4})))
    if marked.any():
        rows, columns = np.nonzero(marked)
        circles = {"linestyle": "none", "marker": "o", "markersize": 2, "markeredgewidth": 0.4}
        circles |= {"markerfacecolor": "white", "markeredgecolor": "black"}
        handles += ax.plot(scales[columns], rows, label="not converged", **circles)
    if handles:
        ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles))


def _draw_bar(norm: Normalize, label: str, axes: Axes | list[Axes]) -> None:
    first = axes[0] if isinstance(axes, list) else axes
    bar = first.figure.colorbar(
        ScalarMappable(norm), ax=axes, label=drawable(label), pad=0.02, aspect=18
    )
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
