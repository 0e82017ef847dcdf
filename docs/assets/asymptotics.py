"""Draws the figures of the page "How good the end is": `python docs/assets/asymptotics.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

import ddln
from ddln import plots

FOLDER = Path(__file__).parent
DENSITY = 0.1
SCALES = np.geomspace(1e-3, 1e1, 25)
RATIOS = np.linspace(0.04, 0.96, 24)
DEPTHS = [2, 3, 4, 6]


def errors(depth):
    """The error for all scales, as rows, and ratios."""
    signal = ddln.Signal.sparse(DENSITY)

    @jax.jit
    def row(scale):
        start = ddln.DeepDiagonal.zero_last(jnp.ones(1), depth, scale)
        point = lambda ratio: ddln.state_evolution(start, signal, ratio, throw=False).mse  # noqa: E731
        return jax.vmap(point)(jnp.asarray(RATIOS))

    return np.stack([row(jnp.asarray(scale)) for scale in SCALES])


def draw_phases(found):
    figure, axes = plt.subplots(1, 2, figsize=(6.75, 2.6), sharey=True, layout="constrained")
    look = {"norm": LogNorm(1e-8, 1), "shading": "nearest", "edgecolors": "face"}
    for ax, depth in zip(axes, (2, 4), strict=True):
        colours = ax.pcolormesh(SCALES, RATIOS, np.maximum(found[depth].T, 1e-8), **look)
        ax.contour(
            SCALES, RATIOS, found[depth].T, [0.5, 1e-1, 1e-2], colors="white", linewidths=0.6
        )
        ax.set(xscale="log", xlabel="scale of initialization", title=f"depth {depth}")
    axes[0].set_ylabel("n/d")
    figure.colorbar(colours, ax=axes, label="mean squared error", extend="min")
    return figure


def draw_depths(found):
    figure, axes = plt.subplots(1, 2, figsize=(6.75, 2.4), layout="constrained")
    row, column = np.argmin(abs(SCALES - 0.3)), np.argmin(abs(RATIOS - 0.35))
    for depth in DEPTHS:
        axes[0].semilogy(RATIOS, found[depth][row], label=f"depth {depth}")
        axes[1].loglog(SCALES, found[depth][:, column], label=f"depth {depth}")
    axes[0].set(xlabel="n/d", ylabel="mean squared error", title=f"scale {SCALES[row]:.2f}")
    axes[1].set(xlabel="scale of initialization", title=f"n/d = {RATIOS[column]:.2f}")
    axes[1].legend()
    return figure


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    with plots.style():
        found = {depth: errors(depth) for depth in DEPTHS}
        draw_phases(found).savefig(FOLDER / "asymptotics-phases.png")
        draw_depths(found).savefig(FOLDER / "asymptotics-depths.png")
