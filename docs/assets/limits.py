"""Draws the figures of the page "Where the flow ends": `python docs/assets/limits.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ddln
from ddln import plots

DEPTHS = [2, 3, 4, 6]
FOLDER = Path(__file__).parent


def sparse_problem(key, n, values, d):
    """Random X, and the predictions of a sparse theta."""
    X = jax.random.normal(key, (n, d))
    return X, X[:, : len(values)] @ jnp.array(values)


def excess(network, X, y, scales):
    """The excess of the weighted l1 norm at the end of the flow, and its law."""
    loss = ddln.LeastSquares(X, y)

    @jax.jit
    @jax.vmap
    def end(scale):
        found = ddln.limit(ddln.DeepDiagonal(scale * network.layers), loss, throw=False)
        return jnp.where(ddln.is_okay(found.result), found.theta, jnp.nan)

    measured = ddln.excess_l1(end(scales), X, y, ddln.l1_weights(network))
    # Differences of numbers near 1.
    measured = np.where(measured > 1e-13, measured, np.nan)
    return measured, ddln.excess_law(network, loss, scales)


def draw_excess(axes):
    X, y = sparse_problem(jax.random.key(25), 5, [1.5, -1.2, 1.0, -0.8, 0.6], 12)
    scales = jnp.geomspace(1e-4, 1.0, 17)
    starts = {
        depth: (
            [ddln.DeepDiagonal.zero_last(jnp.ones(12), depth)],
            [ddln.DeepDiagonal.random(jax.random.key(seed), depth, 12) for seed in range(3)],
        )
        for depth in DEPTHS
    }
    labels = (r"excess of the $\ell_1$ norm", r"excess of the weighted $\ell_1$ norm")
    for kind, (ax, label) in enumerate(zip(axes, labels, strict=True)):
        values = [
            np.stack([excess(start, X, y, scales) for start in starts[depth][kind]], axis=-1)
            for depth in DEPTHS
        ]
        measured, law = np.stack(values, axis=1)
        plots.excess_curves(scales, measured, law, DEPTHS, label=label, ax=ax)


def draw_phase():
    X, y = sparse_problem(jax.random.key(0), 20, [1.0, -1.0, 0.7], 50)
    loss = ddln.LeastSquares(X / jnp.sqrt(20), y / jnp.sqrt(20))
    scales = jnp.geomspace(1e-4, 1e2, 2500)
    to_l1, to_l2 = np.empty((2, len(DEPTHS), len(scales)))
    for row, depth in enumerate(DEPTHS):
        starts = jax.vmap(
            lambda scale, depth=depth: ddln.DeepDiagonal.zero_last(jnp.ones(50), depth, scale)
        )(scales)
        ends = ddln.sweep(starts, loss, jnp.inf, progress=False)
        okay = np.asarray(ddln.is_okay(ends.result))[:, None]
        theta = np.where(okay, ends.theta[:, -1], np.nan)
        to_l1[row] = ddln.relative_distance(jnp.nan_to_num(theta), ddln.minimum_l1(X, y))
        to_l2[row] = ddln.relative_distance(jnp.nan_to_num(theta), ddln.minimum_l2(X, y))
        to_l1[row, ~okay[:, 0]] = to_l2[row, ~okay[:, 0]] = np.nan
    # One colour below 1e-8.
    left, _ = plots.phase_pair(
        scales, DEPTHS, np.maximum(to_l1, 1e-8), np.maximum(to_l2, 1e-8), label="relative distance"
    )
    return left.figure


def draw_staircase(ax, depth, scale):
    X, y = sparse_problem(jax.random.key(25), 5, [1.5, -1.2, 1.0, -0.8, 0.6], 12)
    loss = ddln.LeastSquares(X, y)
    network = ddln.DeepDiagonal.random(jax.random.key(2), depth, 12)
    path = ddln.vanishing_limit(network, loss)
    unit = np.log(1 / scale) if depth == 2 else scale ** (2 - depth)
    last = 1.25 * float(path.ts[path.stats["num_plateaus"] - 1])
    taus = jnp.linspace(0, last, 1000)
    small = ddln.DeepDiagonal(scale * network.layers)
    if depth == 2:
        flow = ddln.mirror_flow(ddln.potential(small), loss, unit * last, ts=unit * taus)
    else:
        flow = ddln.gradient_flow(small, loss, unit * last, ts=unit * taus)
    plots.staircase(path, taus, flow.theta, labelled=6, ax=ax)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    with plots.style():
        figure = plt.figure(figsize=(6.75, 2.5))
        draw_excess(figure.subplots(1, 2))
        figure.savefig(FOLDER / "limits-excess.png")
        figure = plt.figure(figsize=(6.75, 2.5))
        axes = figure.subplots(1, 2)
        draw_staircase(axes[0], 2, 1e-60)
        draw_staircase(axes[1], 3, 1e-2)
        figure.savefig(FOLDER / "limits-staircase.png")
        draw_phase().savefig(FOLDER / "limits-phase.png")
