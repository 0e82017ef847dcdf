"""Trajectories whose values are chosen by hand, and what a drawn figure looks like."""

import io
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.text import Text

from ddln import RESULTS, DeepDiagonal, Identity
from ddln.flows import Trajectory
from ddln.flows.states import FullSpace


def trajectory(times, layers, loss=None) -> Trajectory:
    """A trajectory through the layers [T, L, d], with any losses [T]."""
    layers = jnp.asarray(layers, float)
    return _trajectory(times, DeepDiagonal(layers[0]), eqx.filter_vmap(DeepDiagonal)(layers), loss)


def identity_trajectory(times, theta) -> Trajectory:
    """A trajectory through theta [T, *theta]."""
    theta = jnp.asarray(theta, float)
    return _trajectory(times, Identity(theta[0]), eqx.filter_vmap(Identity)(theta), None)


def _trajectory(times, initial, parameterization, loss) -> Trajectory:
    theta = eqx.filter_vmap(lambda p: p.effective())(parameterization)
    return Trajectory(
        initial=initial,
        ts=jnp.asarray(times, float),
        parameterization=parameterization,
        theta=theta,
        loss=jnp.zeros(len(theta)) if loss is None else jnp.asarray(loss),
        dual=jnp.zeros_like(theta),
        result=RESULTS.successful,  # pyright: ignore[reportArgumentType]
        stats={},
        rtol=jnp.asarray(1e-6),
        atol=jnp.asarray(1e-9),
        method="by hand",
        space=FullSpace(initial),
    )


def stack(*trajectories: Trajectory) -> Trajectory:
    """A batch, as `jax.vmap` of a flow returns it."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trajectories)


def points(line: Line2D) -> tuple[np.ndarray, np.ndarray]:
    """The data of a line."""
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def cells(ax) -> np.ndarray:
    """The values of the picture, NaN where there is none."""
    return np.ma.filled(ax.collections[0].get_array(), np.nan)


def legend_texts(ax) -> list[str]:
    """The texts of the legend, column by column; the legend is above the axes."""
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1
    return [text.get_text() for text in ax.get_legend().get_texts()]


def grey_levels(ax) -> np.ndarray:
    """The figure, drawn and seen in grey: rows of values from 0 (black) to 1."""
    canvas = ax.figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] @ np.array([0.299, 0.587, 0.114]) / 255


def save(ax) -> None:
    """Writes the figure as a vector file; warnings, of missing letters for example, are errors."""
    file = io.BytesIO()
    ax.figure.savefig(file, format="pdf")
    assert file.tell() > 1000


def text_boxes(ax) -> list:
    """The boxes of the texts in the drawn figure, without the strokes to them, in pixels."""
    ax.figure.canvas.draw()
    return [Text.get_window_extent(text) for text in ax.texts]


def overlap(boxes) -> bool:
    """Whether any two boxes have points in common."""
    return any(
        first.x0 < second.x1
        and second.x0 < first.x1
        and first.y0 < second.y1
        and second.y0 < first.y1
        for first, second in itertools.combinations(boxes, 2)
    )
