"""Coefficients against the norm of the effective parameter."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ddln.plots._axes import axes_or_new, label_right
from ddln.plots._data import as_flows, reached
from ddln.plots._style import GREY, looks, style


def coefficient_paths(
    trajectory: Any,
    *,
    names: Sequence[str] | None = None,
    labelled: int = 7,
    ax: Axes | None = None,
) -> Axes:
    """Draw each coefficient theta_i(t) against |theta(t)|_1, like Lasso paths.

    The coefficients that end largest in absolute value are coloured and named at the right; the
    others are grey.

    Example:
        >>> problem = ddln.problems.diabetes(quadratic=True)
        >>> ts = jnp.geomspace(1e-4, 10.0, 400)
        >>> trajectory = ddln.gradient_flow(network, problem.loss(), t1=10.0, ts=ts)
        >>> ddln.plots.coefficient_paths(trajectory, names=problem.feature_names)

    Args:
        trajectory: a `ddln.Trajectory`, or one lane of a `ddln.SweepResult` or of its `xarray.Dataset`,
            saved at two times or more; a theta that is a matrix is flattened.
        names: a name for each coefficient; theta_0, theta_1, ... if not given.
        labelled: how many coefficients to name.
        ax: the axes to draw on; None makes a new figure.

    Returns:
        The axes. The lines are the paths in the order of the coefficients, then the zero line.

    Raises:
        ValueError: if the trajectory is a batch or has fewer than two rows, the number of names
            does not match, or `labelled` is negative.
    """
    trajectory = as_flows(trajectory)
    rows = reached(trajectory)
    theta = np.asarray(trajectory.theta)[rows]
    shape = theta.shape[1:]
    paths = theta.reshape(len(rows), -1).T
    if names is None:
        indices = (",".join(map(str, index)) for index in np.ndindex(shape))
        names = [rf"$\theta_{{{index}}}$" for index in indices]
    if len(names) != len(paths):
        raise ValueError(
            f"Argument `names` must have one name for each of the {len(paths)} coefficients, "
            f"but it has {len(names)}."
        )
    if labelled < 0:
        raise ValueError(f"Argument `labelled` must not be negative, but it is {labelled}.")
    norms = np.abs(paths).sum(axis=0)
    largest = np.argsort(-np.abs(paths[:, -1]), kind="stable")[:labelled]

    with style():
        ax = axes_or_new(ax)
        lines = [
            ax.plot(norms, path, color="0.8", linestyle="-", linewidth=0.6, zorder=1)[0]
            for path in paths
        ]
        for index, look in zip(largest, looks(len(largest)), strict=True):
            lines[index].set(linewidth=1.2, zorder=2, **look)
        ax.axhline(0, color=GREY, linewidth=0.6, linestyle="-", zorder=0)
        ax.set_xlim(norms.min(), norms.max())
        ax.set_xlabel(r"$|\theta(t)|_1$")
        ax.set_ylabel(r"$\theta_i(t)$")
        label_right(
            ax,
            paths[largest, -1],
            [names[index] for index in largest],
            [lines[index].get_color() for index in largest],
        )
    return ax
