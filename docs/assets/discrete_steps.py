"""Draws the figures of the page "Discrete steps": `python docs/assets/discrete_steps.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import ddln
from ddln import plots, theory

FOLDER = Path(__file__).parent
SAMPLES, DIM, SPARSITY = 20, 30, 3
KEYS = 8


def sparse_problem():
    """Data, its loss, and two layers (sqrt(2) alpha, 0) with alpha = 0.1."""
    problem = ddln.problems.sparse_regression(jax.random.key(0), SAMPLES, DIM, sparsity=SPARSITY)
    network = ddln.DeepDiagonal.zero_last(jnp.ones(DIM), 2, np.sqrt(2) * 0.1)
    return problem, problem.loss(), network


def sweep_steps(rates, keys, batch_size, steps=100_000):
    """What becomes of descents with all step sizes, shape [key, rate, ...]; NaN where they diverge."""
    problem, loss, network = sparse_problem()

    def end(key, rate):
        settings = {} if batch_size is None else {"key": key, "batch_size": batch_size}
        run = ddln.descend(
            network,
            loss,
            optax.sgd(rate),
            steps,
            ts=[*range(1000), steps],
            throw=False,
            **settings,
        )
        gain = theory.gain(run)
        edge = rate * theory.sharpness(run.final, loss) / 2
        predicted = ddln.limit(gain.start, loss, throw=False).theta
        return {
            "error": jnp.sum(jnp.square(run.theta[-1] - problem.theta_true)),
            "predicted": jnp.sum(jnp.square(predicted - problem.theta_true)),
            "gain": gain.shrink[-1],
            "edge": edge,
            "rises": theory.catapult(run).rises,
        }

    over_rates = jax.vmap(end, in_axes=(None, 0))
    return jax.jit(jax.vmap(over_rates, in_axes=(0, None)))(keys, rates)


def draw_sweep():
    problem, loss, network = sparse_problem()
    one_key, keys = (
        jax.random.split(jax.random.key(1), 1),
        jax.random.split(jax.random.key(1), KEYS),
    )
    methods = {
        "all samples": (jnp.geomspace(1e-2, 1.05, 40), one_key, None),
        "single samples": (jnp.geomspace(1e-3, 0.21, 28), keys, 1),
    }
    found = {name: sweep_steps(*settings) for name, settings in methods.items()}
    flow = ddln.limit(network, loss).theta
    figure, axes = plt.subplots(2, 2, figsize=(6.75, 4.4))
    looks = plt.rcParams["axes.prop_cycle"]
    for (name, (rates, _, _)), look in zip(methods.items(), looks, strict=False):
        runs, color = found[name], look["color"]
        curves = [runs["error"], jnp.sum(runs["gain"], axis=-1), runs["edge"]]
        for ax, values in zip((axes[0, 0], axes[0, 1], axes[1, 1]), curves, strict=True):
            median = np.median(values, axis=0)
            ax.plot(rates, median, label=name, **look)
            if len(values) > 1:
                low, high = np.quantile(values, [0.25, 0.75], axis=0)
                ax.fill_between(rates, low, high, color=color, alpha=0.2, linewidth=0)
        predicted = np.median(runs["predicted"], axis=0)
        axes[0, 0].plot(
            rates[::3], predicted[::3], "o", color=color, markerfacecolor="none", ms=3.5
        )
        rises = np.median(runs["rises"], axis=0) > 0
        if name == "all samples":
            at = np.asarray(rates)[rises]
            edge = np.median(runs["edge"], axis=0)[rises]
            axes[1, 1].plot(at, edge, "^", color=color, ms=3.5, label="loss has risen")
    error = jnp.sum(jnp.square(flow - problem.theta_true))
    axes[0, 0].plot([], [], "o", color="0.3", markerfacecolor="none", ms=3.5, label="predicted")
    axes[0, 0].axhline(float(error), color="0.5", lw=0.8, label="gradient flow")
    axes[1, 1].axhline(1.0, color="0.5", lw=0.8)
    draw_shapes(axes[1, 0], problem, methods, found)
    labels = [
        r"error $|\theta - \theta^*|^2$",
        r"gain $G_1 + \dots + G_d$",
        "",
        r"sharpness over $2 / \gamma$",
    ]
    for ax, label in zip(axes.flat, labels, strict=True):
        if ax is not axes[1, 0]:
            ax.set(xscale="log", xlabel=r"step size $\gamma$", ylabel=label)
    for ax in (axes[0, 0], axes[0, 1], axes[1, 1]):
        ax.set_yscale("log")
    axes[1, 1].set(xlim=(4e-2, 1.2), ylim=(5e-2, 1.6))
    axes[0, 0].legend(loc="lower left")
    axes[1, 1].legend(loc="lower right")
    return figure


def draw_shapes(ax, problem, methods, found):
    """The gain of each coordinate at one step size, over its mean."""
    order = np.argsort(-np.abs(problem.theta_true), kind="stable")
    chosen = {"all samples": 0.7, "single samples": 0.1}
    for (name, rate), look, marker in zip(
        chosen.items(), plt.rcParams["axes.prop_cycle"], "os", strict=False
    ):
        index = int(np.argmin(np.abs(np.log(np.asarray(methods[name][0]) / rate))))
        gain = np.median(found[name]["gain"][:, index], axis=0)[order]
        ax.plot(
            np.arange(1, DIM + 1),
            gain / np.mean(gain),
            marker,
            color=look["color"],
            ms=3.5,
            label=rf"{name}, $\gamma = {rate}$",
        )
    ax.axvline(SPARSITY + 0.5, color="0.5", lw=0.8, ls=":")
    ax.set(yscale="log", xlabel="coordinate, the true ones first", ylabel="gain over its mean")
    ax.legend(loc="upper right")


def lasso_path(X, y, penalties, iterations=5000):
    """argmin |X theta - y|^2 / 2 + penalty |theta|_1 for all penalties, by accelerated proximal steps."""
    X, y = np.asarray(X), np.asarray(y)
    theta = np.zeros((X.shape[1], len(penalties)))
    ahead, weight, rate = theta, 1.0, 1 / np.linalg.norm(X, 2) ** 2
    for _ in range(iterations):
        moved = ahead - rate * X.T @ (X @ ahead - y[:, None])
        new = np.sign(moved) * np.maximum(np.abs(moved) - rate * penalties, 0)
        following = (1 + np.sqrt(1 + 4 * weight**2)) / 2
        ahead, theta, weight = new + (weight - 1) / following * (new - theta), new, following
    return theta


def noisy_problem():
    return ddln.problems.sparse_regression(jax.random.key(1), 40, 80, sparsity=4, noise=0.05)


def draw_stopping(ax):
    problem = noisy_problem()
    truth = np.asarray(problem.theta_true)[:, None]
    ts = np.unique(np.round(np.geomspace(1, 1e5, 400)))
    for scale, look in zip((1e-1, 1e-2, 1e-4), plt.rcParams["axes.prop_cycle"], strict=False):
        network = ddln.DeepDiagonal.zero_last(jnp.ones(80), 2, scale)
        run = ddln.descend(network, problem.loss(), optax.sgd(0.05), 100_000, ts=ts)
        risk = np.sum((np.asarray(run.theta) - truth.T) ** 2, axis=1)
        power = int(np.round(np.log10(scale)))
        (line,) = ax.loglog(run.ts, risk, label=rf"$\alpha = 10^{{{power}}}$", **look)
        best = int(np.argmin(risk))
        ax.plot(run.ts[best], risk[best], "o", color=line.get_color(), ms=4)
    lasso = lasso_path(problem.X, problem.y, np.geomspace(1e-4, 1, 100))
    least = np.min(np.sum((lasso - truth) ** 2, axis=0))
    ax.axhline(least, color="0.5", lw=0.8)
    ax.text(1, 1.15 * least, "best Lasso", fontsize=plt.rcParams["legend.fontsize"])
    ax.set(xlabel="step $k$", ylabel=r"risk $|\theta_k - \theta^*|^2$", ylim=(1.5e-3, 3))
    ax.legend(loc="lower left")


def draw_decay(ax):
    """The ends of descents with weight decay on the path of the Lasso."""
    problem = noisy_problem()
    loss, network = problem.loss(), ddln.DeepDiagonal.random(jax.random.key(2), 2, 80, 0.3)

    def end(penalty):
        optimizer = optax.chain(optax.add_decayed_weights(penalty), optax.sgd(0.05))
        return ddln.descend(network, loss, optimizer, 40_000, throw=False).theta[-1]

    marked, penalties = np.geomspace(2e-2, 1.0, 12), np.geomspace(2e-2, 1.0, 200)
    ends = jax.jit(jax.vmap(end))(jnp.asarray(marked))
    path = lasso_path(problem.X, problem.y, penalties)
    active = np.flatnonzero(np.abs(path).max(axis=1) > 1e-6)
    true = np.asarray(problem.theta_true) != 0
    for i in active:
        color = "C0" if true[i] else "0.6"
        ax.plot(penalties, path[i], color=color, lw=1.0, ls="-")
        ax.plot(marked, ends[:, i], "o", color=color, ms=2.5)
    ax.set(xscale="log", xlabel=r"weight decay $\lambda$", ylabel=r"$\theta_i$")


def draw_orders(ax):
    """Distances at one time of descent, mirror descent and their flow, against the step size."""
    _, loss, _ = sparse_problem()
    network, t1 = ddln.DeepDiagonal.random(jax.random.key(3), 2, DIM, 0.5), 4.0
    flow = ddln.gradient_flow(network, loss, t1, rtol=1e-12, atol=1e-14).theta[-1]
    potential, counts = ddln.potential(network), 2 ** np.arange(4, 12)
    pairs = []
    for count in counts.tolist():
        descent = ddln.descend(network, loss, optax.sgd(t1 / count), count).theta[-1]
        mirror = ddln.mirror_descent(potential, loss, t1 / count, count).theta[-1]
        pairs.append([descent - flow, mirror - flow, descent - mirror])
    distances = np.linalg.norm(np.array(pairs), axis=2).T
    names = ["descent, flow", "mirror descent, flow", "descent, mirror descent"]
    for name, values, look, marker in zip(
        names, distances, plt.rcParams["axes.prop_cycle"], "os^", strict=False
    ):
        ax.loglog(t1 / counts, values, label=name, marker=marker, ms=3, **look)
    ax.set(xlabel=r"step size $\gamma$", ylabel=r"distance of $\theta$ at $t = 4$")
    ax.legend(loc="upper left")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    with plots.style():
        draw_sweep().savefig(FOLDER / "discrete-steps-sweep.png")
        figure, axes = plt.subplots(1, 3, figsize=(6.75, 2.3))
        draw_stopping(axes[0])
        draw_decay(axes[1])
        draw_orders(axes[2])
        figure.savefig(FOLDER / "discrete-steps-regularization.png")
