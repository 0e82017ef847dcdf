"""A potential along its coordinates."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from ddln.plots._axes import axes_or_new, label_right
from ddln.plots._style import looks, style

# Coordinates that are drawn, if none are named, and points of a curve.
MOST, POINTS = 7, 401


def potential_curves(
    potential: Any,
    reach: float = 1.0,
    *,
    coordinates: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the potential Q along some of its coordinates: Q(theta_0 + s e_i) against s.

    Q is zero at the start. It is drawn as far as its domain reaches: a potential that keeps the signs of
    theta ends where theta_i = 0.

    Example:
        >>> network = ddln.DeepDiagonal.random(jax.random.key(0), depth=3, dim=4, scale=0.5)
        >>> ddln.plots.potential_curves(ddln.potential(network))

    Args:
        potential: a potential, as `ddln.potential` gives it.
        reach: the largest |s|.
        coordinates: the indices i, of theta flattened; None takes the first seven.
        names: a name for each of them; theta_0, theta_1, ... if not given.
        ax: the axes to draw on; None makes a new figure.

    Returns:
        The axes. The lines are the curves in the order of the coordinates.

    Raises:
        ValueError: if `reach` is not positive, there is no such coordinate, or the number of names does
            not match.
    """
    start = jnp.asarray(potential.start)
    size = start.size
    chosen = list(range(min(size, MOST)) if coordinates is None else coordinates)
    if not reach > 0:
        raise ValueError(f"Argument `reach` must be positive, but it is {reach}.")
    if not chosen or not all(0 <= index < size for index in chosen):
        raise ValueError(
            f"Argument `coordinates` must be numbers from 0 to {size - 1}, but it is {chosen}."
        )
    if names is None:
        names = [rf"$\theta_{{{index}}}$" for index in chosen]
    if len(names) != len(chosen):
        raise ValueError(
            f"Argument `names` must have one name for each of the {len(chosen)} coordinates, "
            f"but it has {len(names)}."
        )
    steps = jnp.linspace(-reach, reach, POINTS, dtype=start.dtype)
    moves = jnp.eye(size, dtype=start.dtype)[jnp.asarray(chosen)]
    points = start.reshape(1, 1, -1) + steps[None, :, None] * moves[:, None, :]
    # In one program, in which a point outside of the domain has the value nan and is no error.
    value = eqx.filter_jit(eqx.filter_vmap(eqx.filter_vmap(potential.value)))
    heights = np.asarray(value(points.reshape(len(chosen), POINTS, *start.shape)), float)
    heights = np.where(np.isfinite(heights), heights, np.nan)

    with style():
        ax = axes_or_new(ax)
        lines = [
            ax.plot(np.asarray(steps), height, **look)[0]
            for height, look in zip(heights, looks(len(chosen)), strict=True)
        ]
        ax.margins(x=0.02)
        ax.set_xlabel(r"$s = \theta_i - \theta_i(0)$")
        ax.set_ylabel(r"$Q(\theta_0 + s\, e_i)$")
        ends = [row[np.isfinite(row)][-1:].sum() for row in heights]
        label_right(ax, ends, names, [line.get_color() for line in lines])
    return ax
