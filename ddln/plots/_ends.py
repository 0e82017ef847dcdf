"""Coefficients at the end of one flow, or of many side by side."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ddln._results import is_okay
from ddln.plots._axes import axes_or_new, drawable, label_right, legend_above
from ddln.plots._data import numbers, spans_decades
from ddln.plots._style import GREY, looks, style

# Flows that are drawn, at most: more are no longer told apart on paper.
MOST = 1000


def ends(
    result: Any,
    x: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    labelled: int = 7,
    xlabel: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the coefficients theta_i at the end: stems of one limit, or curves over the lanes of many.

    The coefficients that are largest in absolute value (of many lanes: in the last one) are coloured and
    named at the right; the others are grey. Lanes that failed leave a gap and have a cross at the bottom.
    Of more than 1000 lanes 1000 are drawn, by even steps, and the x axis says so.

    Example (from the rich to the kernel regime):
        >>> result = ddln.sweep(starts, loss, t1=jnp.inf)
        >>> ddln.plots.ends(result, scales, xlabel="scale of initialization")

    Args:
        result: a `ddln.Limit`, of one start or of a batch; a `ddln.SweepResult` with theta; or its
            `xarray.Dataset`, or that of a store, with lanes along one dimension.
        x: a number for each lane, positive ones on a log axis if they span more than a factor of 100; the
            labels of the dataset, or the index of the lane, if not given.
        names: a name for each coefficient; theta_0, theta_1, ... if not given.
        labelled: how many coefficients to name.
        xlabel: the quantity at the x axis.
        ax: the axes to draw on; None makes a new figure.

    Returns:
        The axes. The lines are the coefficients in their order, then the zero line, then the crosses of
        failed lanes, if there are any.

    Raises:
        ValueError: if there is no theta, lanes have more than one dimension, or the number of `x` or of
            `names` does not match.
    """
    found = _ends(result)
    count = len(found.theta)
    paths = found.theta.reshape(count, -1).T
    if names is None:
        places = (",".join(map(str, index)) for index in np.ndindex(found.theta.shape[1:]))
        names = [rf"$\theta_{{{place}}}$" for place in places]
    if len(names) != len(paths):
        raise ValueError(
            f"Argument `names` must have one name for each of the {len(paths)} coefficients, "
            f"but it has {len(names)}."
        )
    places = found.x if x is None else numbers("x", x, "lane")
    if len(places) != found.lanes:
        raise ValueError(
            f"Argument `x` must have one number for each of the {found.lanes} lanes, but it has "
            f"{len(places)}."
        )
    places = places[found.chosen]
    order = np.argsort(places, kind="stable")
    places, paths, okay = places[order], paths[:, order], found.okay[order]
    heights = paths[:, np.flatnonzero(okay)[-1]] if okay.any() else np.zeros(len(paths))
    largest = np.argsort(-np.abs(heights), kind="stable")[:labelled]
    words = found.xlabel if xlabel is None else xlabel
    if count < found.lanes:
        words = f"{words} ({count} of {found.lanes} lanes)"

    with style():
        ax = axes_or_new(ax)
        if found.single:
            places = np.arange(len(paths))
            lines = [
                ax.plot(
                    [i, i],
                    [0, height],
                    color="0.8",
                    linestyle="-",
                    linewidth=1.2,
                    marker="o",
                    markevery=[1],
                )[0]
                for i, height in enumerate(heights)
            ]
        else:
            lines = [
                ax.plot(places, path, color="0.8", linestyle="-", linewidth=0.6, zorder=1)[0]
                for path in paths
            ]
        for index, look in zip(largest, looks(len(largest)), strict=True):
            look = (
                {"color": look["color"], "linestyle": "-"}
                if found.single
                else {**look, "linewidth": 1.2}
            )
            lines[index].set(zorder=2, **look)
        ax.axhline(0, color=GREY, linewidth=0.6, linestyle="-", zorder=0)
        if not found.single and spans_decades(places):
            ax.set_xscale("log")
        if not okay.all():
            _mark_failures(ax, places[~okay])
        ax.margins(x=0.02)
        ax.set_xlabel(drawable(words))
        ax.set_ylabel(r"$\theta_i$ at the end")
        colors = [lines[index].get_color() for index in largest]
        label_right(ax, heights[largest], [names[index] for index in largest], colors)
    return ax


class _Ends(NamedTuple):
    """The theta of some lanes, NaN where one failed, and what the x axis is."""

    theta: np.ndarray
    okay: np.ndarray
    chosen: np.ndarray
    lanes: int
    x: np.ndarray
    xlabel: str
    single: bool


def _ends(result: Any) -> _Ends:
    if hasattr(result, "data_vars"):
        return _of_dataset(result)
    if hasattr(result, "residual"):
        lanes = result.residual.shape
        theta = np.asarray(result.theta)
        theta = theta.reshape(-1, *theta.shape[len(lanes) :])
        okay = np.asarray(is_okay(result.result)).reshape(-1)
        return _some(lambda chosen: theta[chosen], okay, None, "lane", single=not lanes)
    if getattr(result, "theta", None) is None:
        raise ValueError(
            "Argument `result` must have theta, but it has none: a sweep with `observe` keeps what that "
            "returns. Draw that with matplotlib, or let it return `flow.theta`."
        )
    return _some(lambda chosen: _last(np.asarray(result.theta[chosen])), np.asarray(result.okay))


def _of_dataset(data: Any) -> _Ends:
    name = next((name for name in ("theta", "end") if name in data), None)
    dims = [] if name is None else list(data["okay"].dims)
    if name is None or len(dims) != 1:
        raise ValueError(
            "Argument `result` must be a dataset with theta or end, and with lanes along one dimension, "
            f"but they have the dimensions {dims}. Take one entry of the others with `isel` or `sel`."
        )
    array = data[name].transpose(dims[0], ...)
    labels = np.asarray(data[dims[0]], float)

    def read(chosen: np.ndarray) -> np.ndarray:
        values = array.isel({dims[0]: chosen}).to_numpy()
        return _last(values) if name == "theta" else values

    return _some(read, np.asarray(data["okay"]), labels, str(dims[0]))


def _some(read: Any, okay: np.ndarray, x: Any = None, xlabel: str = "lane", single: bool = False):
    """Some of the lanes by even steps, all if they are few."""
    lanes = len(okay)
    chosen = np.unique(np.linspace(0, lanes - 1, min(lanes, MOST)).round().astype(int))
    okay = okay[chosen]
    theta = np.asarray(read(chosen), float)
    theta = np.where(okay.reshape(-1, *(1,) * (theta.ndim - 1)), theta, np.nan)
    labels = np.arange(lanes) if x is None else x
    return _Ends(theta, okay, chosen, lanes, labels, "coefficient i" if single else xlabel, single)


def _last(theta: np.ndarray) -> np.ndarray:
    """The last saved row of each lane that was reached: a flow may have stopped at an event."""
    known = np.all(np.isfinite(theta).reshape(*theta.shape[:2], -1), axis=-1)
    last = known.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
    return theta[np.arange(len(theta)), last]


def _mark_failures(ax: Axes, places: np.ndarray) -> None:
    """Crosses at the bottom of the axes."""
    look = {"linestyle": "none", "marker": "x", "color": "black", "markersize": 3, "clip_on": False}
    crosses = ax.plot(
        places, np.zeros(len(places)), transform=ax.get_xaxis_transform(), label="failed", **look
    )
    legend_above(ax, crosses, 1)
