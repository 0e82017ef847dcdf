"""Draws hero.png, the picture of the README: `python docs/assets/hero.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

from ddln import DeepDiagonal, plots, problems, theory
from ddln.flows import gradient_flow


def sign_change(ax):
    problem, layers = problems.figure_3(jax.random.key(8))
    ts = jnp.linspace(0.0, 1.0, 300)
    flow = gradient_flow(DeepDiagonal(layers), problem.loss(scale=1.0), t1=1.0, ts=ts)
    plots.layers(flow, coordinate=1, ax=ax)


def convergence(ax):
    problem, layers = problems.figure_4(jax.random.key(5))
    loss, networks = problem.loss(scale=1.0), jax.vmap(DeepDiagonal)(layers)
    ts = jnp.linspace(0.0, 6.0, 300)
    flows = jax.vmap(lambda n: gradient_flow(n, loss, t1=6.0, ts=ts, throw=False))(networks)
    bounds = {
        "Theorem 2": jax.vmap(lambda f: theory.pl_rate(f, loss))(flows).rhs,
        "tangent kernel": jax.vmap(lambda f: theory.tangent_kernel_rate(f, loss))(flows).rhs,
    }
    labels = ["start × 1", "× 1.4", "× 1.8"]
    plots.loss_curves(flows, loss.minimum, bounds=bounds, labels=labels, ax=ax)


def selection(ax):
    problem = problems.diabetes(quadratic=True)
    network = DeepDiagonal.zero_last(jnp.ones(problem.X.shape[1]), depth=2, scale=0.5)
    ts = jnp.geomspace(1e-4, 0.3, 500)
    flow = gradient_flow(network, problem.loss(), t1=0.3, ts=ts)
    plots.coefficient_paths(flow, names=problem.feature_names, ax=ax)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    with plots.style():
        figure = plt.figure(figsize=(8.4, 2.3))
        panels = figure.subplots(1, 3)
        for draw, ax in zip((sign_change, convergence, selection), panels, strict=True):
            draw(ax)
        figure.get_layout_engine().set(wspace=0.04)
        figure.savefig(Path(__file__).with_name("hero.png"))
