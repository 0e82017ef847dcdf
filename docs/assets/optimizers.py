"""Draws the figure of the page "Other optimizers": `python docs/assets/optimizers.py`."""

from pathlib import Path

import cvxpy as cp
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import ddln
from ddln import plots

FOLDER = Path(__file__).parent
TRAINED, RATIO, SCALE = 40, 0.4, 0.03
DEPTHS = (2, 3, 4)
POWERS = np.linspace(0, 1.6, 9)  # L / p, the inverse of the norm of theta
SHOWN = {
    0.0: r"$\ell_\infty$: sign flow",
    0.4: r"$\ell_{2.5}$",
    1.0: r"$\ell_1$",
    1.6: r"$\ell_{0.63}$",
}


def regression():
    """The loss of 40 patients, the loss that ends a run, and the error on the others."""
    made = ddln.problems.diabetes(quadratic=True)
    order = np.random.default_rng(0).permutation(made.X.shape[0])
    X, y = np.asarray(made.X)[order], np.asarray(made.y)[order]
    X, y = X / np.linalg.norm(X[:TRAINED], axis=0), y / np.linalg.norm(y[:TRAINED])
    loss = ddln.LeastSquares(X[:TRAINED], y[:TRAINED])

    def held_out(theta):
        off = theta @ X[TRAINED:].T - y[TRAINED:]
        return np.sum(off**2, axis=-1) / np.sum(y[TRAINED:] ** 2)

    return loss, RATIO * float(loss(jnp.zeros(64))), held_out


def flows(depth, loss, level):
    """theta of steepest flows with the exponents q = 1 / (1 - power / L)."""
    starts = jax.vmap(lambda _: ddln.DeepDiagonal.zero_last(jnp.ones(64), depth, SCALE))(POWERS)
    exponents = ddln.PerLane(jnp.asarray(1 / (1 - POWERS / depth)))
    result = ddln.sweep(
        starts, loss, 1e20, dynamics=ddln.SteepestDynamics(exponents),
        event=ddln.LossBelow(level), max_steps=100_000, progress=False,
    )  # fmt: skip
    assert (result.result == ddln.RESULTS.event_occurred).all(), result.failures()
    return np.asarray(result.theta)[:, -1]


def descents(depth, loss, level):
    """theta of Adam, and of sharpness-aware steps; None if they do not get there."""
    start = ddln.DeepDiagonal.zero_last(jnp.ones(64), depth, SCALE)
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    optimizers = optax.adam(1e-3), optax.contrib.sam(optax.sgd(0.02), ascent, opaque_mode=True)
    runs = [
        ddln.descend(start, loss, optimizer, 20_000, dual=False, event=ddln.LossBelow(level))
        for optimizer in optimizers
    ]
    met = [run.result == ddln.RESULTS.event_occurred for run in runs]
    return [run.theta[-1] if m else None for m, run in zip(met, runs, strict=True)]


def least_norm(power, loss, level):
    """The theta of least norm l_(1 / power) with this loss."""
    theta = cp.Variable(64)
    norm = cp.norm(theta, "inf" if power == 0 else 1 / power)
    fits = cp.sum_squares(np.asarray(loss.X) @ theta - np.asarray(loss.y)) <= 2 * level
    cp.Problem(cp.Minimize(norm), [fits]).solve(solver=cp.CLARABEL)
    return theta.value


def draw():
    loss, level, held_out = regression()
    figure, (profile, sparsity, error) = plt.subplots(1, 3, figsize=(6.75, 2.35))
    measures = (sparsity, ddln.effective_sparsity), (error, held_out)
    looks = plt.rcParams["axes.prop_cycle"].by_key()
    for depth, marker, color in zip(DEPTHS, ("o", "s", "^"), looks["color"], strict=False):
        thetas, (adam, aware) = flows(depth, loss, level), descents(depth, loss, level)
        for ax, measure in measures:
            ax.plot(POWERS, measure(thetas), marker + "-", color=color, label=f"$L = {depth}$")
            hollow = {"color": color, "markerfacecolor": "white", "markersize": 5, "linestyle": ""}
            for power, theta in ((0.0, adam), (depth / 2, aware)):
                if theta is not None:
                    ax.plot([power], [measure(np.asarray(theta))], marker, **hollow)
            print(depth, np.asarray(measure(thetas)))
        if depth == 3:
            for i, (power, label) in enumerate(SHOWN.items()):
                theta = np.abs(thetas[np.argmin(np.abs(POWERS - power))])
                profile.plot(
                    np.arange(1, 65), np.sort(theta)[::-1], color=looks["color"][i], label=label,
                    linestyle=looks["linestyle"][i],
                )  # fmt: skip
    powers = np.linspace(0, 1, 6)
    best = np.stack([least_norm(power, loss, level) for power in powers])
    for ax, measure in measures:
        ax.plot(powers, measure(best), "k:", label=r"least $\ell_{p/L}$ norm", zorder=0)
        ax.set_xlabel(r"$L / p$: from $\ell_\infty$ over $\ell_1$ (at 1) to $\ell_{0.6}$")
    profile.set(
        yscale="log",
        ylim=(1e-4, 1),
        xlabel="rank of the coefficient",
        ylabel=r"$|\theta|$, three layers",
    )
    sparsity.set(ylabel="effective number of coefficients", ylim=(0, None), xlim=(-0.1, 1.7))
    error.set(ylabel="error on 402 other patients", xlim=(-0.1, 1.7))
    profile.legend()
    sparsity.legend()
    error.plot(
        [],
        [],
        "o",
        color="0.4",
        markerfacecolor="white",
        markersize=5,
        label="Adam (at 0), SAM (at $L/2$)",
    )
    handles, labels = error.get_legend_handles_labels()
    error.legend(handles[-1:], labels[-1:])
    figure.savefig(FOLDER / "optimizers-prefer.png", dpi=200)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    with plots.style():
        draw()
