"""Draws the figure of the page "Plots", results that draw themselves: `python docs/assets/results.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import ddln
from ddln import plots

FOLDER = Path(__file__).parent


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    problem = ddln.problems.diabetes()
    loss, names = problem.loss(), problem.feature_names
    ts, scales = jnp.geomspace(1e-6, 1.0, 400), jnp.geomspace(1e-3, 10.0, 60)

    def start(scale):
        return ddln.DeepDiagonal.zero_last(jnp.ones(len(names)), 3, scale)

    flow = ddln.gradient_flow(start(0.3), loss, 1.0, ts=ts)
    few = ddln.LeastSquares(problem.X[:6], problem.y[:6])
    ends = ddln.sweep(jax.vmap(start)(scales), few, jnp.inf, progress=False)
    network = ddln.DeepDiagonal.zero_last(jnp.array([0.3, 0.6, 1.0]), 3)
    with plots.style():
        figure, axes = plt.subplots(2, 2, figsize=(6.75, 4.6))
        flow.plot(names=names, ax=axes[0, 0])
        ends.plot(scales, names=names, xlabel="scale of initialization", ax=axes[0, 1])
        ddln.limit(start(0.01), few).plot(names=names, ax=axes[1, 0])
        ddln.potential(network).plot(names=["start 0.3", "0.6", "1"], ax=axes[1, 1])
        titles = ("trajectory.plot()", "sweep.plot(scales)", "limit.plot()", "potential.plot()")
        for ax, title in zip(axes.flat, titles, strict=True):
            ax.set_title(title, loc="left", family="monospace")
        figure.savefig(FOLDER / "results-plots.png", dpi=150)


if __name__ == "__main__":
    main()
