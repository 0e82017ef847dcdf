"""Draws the figures of the page "Weight decay": `python docs/assets/weight_decay.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ddln
from ddln import plots

FOLDER = Path(__file__).parent
STARTS = 16
# Coefficients that are drawn in colour are at least this large somewhere on the path of the Lasso.
LARGE = 0.1


def scaled(problem, rows=None):
    """The data with |y| = 1, or some rows of it."""
    X, y = problem.X[:rows], problem.y[:rows]
    X = X / jnp.linalg.norm(X, axis=0)[None]
    return X, ddln.LeastSquares(X, y / jnp.linalg.norm(y))


def ends(loss, layers, decays):
    """The ends of flows with a start and a weight decay each."""

    def end(layers, decay):
        return ddln.limit(ddln.DeepDiagonal(layers), loss, weight_decay=decay, throw=False)

    found = jax.jit(jax.vmap(end))(layers, decays)
    assert np.all(ddln.is_okay(found.result))
    return np.asarray(found.theta)


def on_grid(path):
    """The Lasso between the weight decays of the figures."""
    grid = path.penalties[0] * jnp.geomspace(2e-3, 1.2, 400)
    return grid, jax.vmap(path.at)(grid)


def color_of(path, i):
    large = np.flatnonzero(np.abs(path.theta).max(axis=0) > LARGE)
    return f"C{np.searchsorted(large, i)}" if i in large else "0.7"


def draw_path(ax, loss, path):
    """Ends of integrated flows on the path of the Lasso."""
    decays = path.penalties[0] * jnp.geomspace(2e-3, 1.2, 24)
    network = ddln.DeepDiagonal.random(jax.random.key(0), 2, loss.X.shape[1])

    @jax.jit
    @jax.vmap
    def flow(decay):
        return ddln.gradient_flow(
            network, loss, 60 / decay, weight_decay=decay, dual=False, rtol=1e-8, throw=False
        ).theta[-1]

    theta = np.asarray(flow(decays))
    off = np.abs(theta - jax.vmap(path.at)(decays)).max(axis=1)
    print("flows at 60 / lambda, from the Lasso: median", np.median(off), "largest", off.max())
    grid, lasso = on_grid(path)
    for i in range(theta.shape[1]):
        color = color_of(path, i)
        ax.plot(grid, lasso[:, i], "-", color=color, linewidth=0.9)
        ax.plot(decays, theta[:, i], "o", color=color, markersize=2)
    ax.set(xscale="log", xlim=(decays[0], decays[-1]))
    ax.set(xlabel=r"weight decay $\lambda$", ylabel=r"$\theta_i$ at the end")


def draw_average(ax, loss, path):
    """The average of the vanishing limit, which is the Lasso where tau times it is monotone."""
    start = ddln.DeepDiagonal.zero_last(jnp.ones(loss.X.shape[1]), 2)
    limit = ddln.vanishing_limit(start, loss)
    taus = jnp.geomspace(1 / path.penalties[0], 500 / path.penalties[0], 200)
    mean = np.asarray(ddln.averaged(limit, taus))
    lasso = np.asarray(jax.vmap(path.at)(1 / taus))
    print("average from the Lasso:", np.abs(mean - lasso).max(), "of", np.abs(lasso).max())
    for i in range(mean.shape[1]):
        color = color_of(path, i)
        ax.plot(1 / taus, lasso[:, i], "-", color=color, linewidth=2.2, alpha=0.35)
        ax.plot(1 / taus, mean[:, i], "-", color=color, linewidth=0.8)
    ax.set(xscale="log", xlim=(1 / taus[-1], 1.2 / taus[0]))
    ax.set(xlabel=r"$1/\tau$", ylabel=r"average of $\theta_i$ up to $\tau$")


def draw_switch(ax, X, loss):
    """The excess of the l1 norm at the end of flows whose decay stops, and from starts as much smaller."""
    network = ddln.DeepDiagonal.random(jax.random.key(1), 2, X.shape[1], scale=0.7)
    largest = jnp.abs(X.T @ loss.y).max()
    totals = jnp.geomspace(0.03, 10.0, 40)

    @jax.jit
    @jax.vmap
    def from_smaller(total):
        start = ddln.DeepDiagonal(jnp.exp(-total) * network.layers)
        return ddln.limit(start, loss, throw=False).theta

    @jax.jit
    @jax.vmap
    def end(decay, total):
        schedule = ddln.PiecewiseConstant((total / decay)[None], jnp.stack([decay, 0 * decay]))
        return ddln.gradient_flow(
            network, loss, 1e5, weight_decay=schedule, dual=False, throw=False
        ).theta[-1]

    excess = ddln.excess_l1(from_smaller(totals), X, loss.y)
    ax.loglog(totals, excess, "-", color="0.5", label=r"start $e^{-\lambda T} w_0$")
    shares, few = np.array([0.01, 0.05, 0.25]), totals[::6]
    pairs = np.meshgrid(shares * largest, few, indexing="ij")
    found = ddln.excess_l1(end(*(jnp.asarray(a).ravel() for a in pairs)), X, loss.y)
    print("decay off:", found.reshape(3, -1) / excess[::6] - 1)
    for marker, share, row in zip("os^", shares, found.reshape(3, -1), strict=True):
        label = rf"$\lambda = {share}\, \lambda_{{\max}}$"
        ax.loglog(few, row, marker, markersize=3, markerfacecolor="none", label=label)
    ax.set(xlabel=r"$\lambda T$", ylabel=r"excess of the $\ell_1$ norm")
    ax.legend(loc="lower left")


def draw_depths(axes, loss, path):
    """Coefficients against the decay for several depths, and objectives from several starts."""
    d, (grid, lasso) = loss.X.shape[1], on_grid(path)
    decays = path.penalties[0] * jnp.geomspace(2e-3, 1.2, 40)
    middle = path.penalties[0] * 0.05
    for depth, title, ax in zip((2, 3, 4), ("1", "2/3", "1/2"), axes, strict=False):
        layers = jax.random.normal(jax.random.key(depth), (STARTS, depth, d))
        first = jnp.broadcast_to(layers[0], (len(decays), depth, d))
        theta = ends(
            loss,
            jnp.concatenate([first, layers]),
            jnp.concatenate([decays, jnp.full(STARTS, middle)]),
        )
        for i in range(d):
            ax.plot(grid, lasso[:, i], "-", color="0.88", zorder=0)
            row = theta[: len(decays), i]
            ax.plot(decays, row, "o-", color=color_of(path, i), markersize=1.5, linewidth=0.7)
        ax.set(xscale="log", xlim=(decays[0], decays[-1]), ylim=(-0.55, 0.65))
        ax.set(xlabel=r"weight decay $\lambda$")
        ax.set_title(rf"$L = {depth}$: $\ell_{{{title}}}$")
        tail = jnp.asarray(theta[len(decays) :])
        penalty = middle * depth / 2 * np.sum(np.abs(tail) ** (2 / depth), axis=1)
        value = np.asarray(jax.vmap(loss)(tail)) + penalty
        print(
            depth, "layers: nonzero", np.count_nonzero(theta, axis=1), "objectives", np.sort(value)
        )
        above = np.sort(value / value.min() - 1)
        axes[3].plot(range(1, STARTS + 1), above, "o-", markersize=2.5, label=f"$L = {depth}$")
    axes[0].set_ylabel(r"$\theta_i$ at the end")
    axes[3].set(xlabel="random start, in order")
    axes[3].set_title("objective above the best")
    axes[3].legend(loc="upper left")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    _, loss = scaled(ddln.problems.diabetes())
    path = ddln.lasso_path(loss.X, loss.y)
    with plots.style():
        figure, axes = plt.subplots(1, 3, figsize=(6.75, 2.2))
        draw_path(axes[0], loss, path)
        draw_average(axes[1], loss, path)
        draw_switch(axes[2], *scaled(ddln.problems.diabetes(quadratic=True), 40))
        figure.savefig(FOLDER / "weight-decay-lasso.png", dpi=200)
        figure, axes = plt.subplots(1, 4, figsize=(6.75, 2.0))
        draw_depths(axes, loss, path)
        figure.savefig(FOLDER / "weight-decay-depth.png", dpi=200)
