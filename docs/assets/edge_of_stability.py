"""Draws the figures of the page "Edge of stability": `python docs/assets/edge_of_stability.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.colors import LogNorm

import ddln
from ddln import plots, theory

FOLDER = Path(__file__).parent
WINDOW = 16
LOOKS = ("#0072B2", "#D55E00")


def running(values):
    """The mean over a window of steps."""
    return np.convolve(values, np.ones(WINDOW) / WINDOW, "valid")


def draw_episodes(end=25.0, rate=0.116):
    """Sharpness, variance and loss of gradient descent, of the central flow and of gradient flow."""
    rng = np.random.default_rng(39)
    X = rng.normal(size=(3, 6))
    loss = ddln.LeastSquares(X, X[:, 0] * 1.5 - X[:, 1])
    start = ddln.DeepDiagonal(0.5 * rng.normal(size=(3, 6)))
    times = np.linspace(0.0, end, 600)
    central = ddln.central_flow(start, loss, end, step_size=rate, ts=times)
    plain = ddln.gradient_flow(start, loss, end, ts=times)
    count = int(end / rate) + WINDOW
    descent = ddln.descend(start, loss, optax.sgd(rate), count, ts=range(count + 1))
    print(theory.central_average(central, descent, loss))
    sharpness = jax.jit(jax.vmap(lambda one: theory.sharpness(one, loss)))

    figure, axes = plt.subplots(3, 1, figsize=(6.0, 4.6), sharex=True, height_ratios=[2, 1, 1])
    steps, gray = np.arange(count + 1) * rate, {"color": "0.55", "ls": "-", "lw": 1.2}
    blue, black = {"color": LOOKS[0], "ls": "-"}, {"color": "0.1", "ls": "--", "lw": 1.0}
    of_descent, of_flow = sharpness(descent.parameterization), sharpness(plain.parameterization)
    axes[0].plot(steps, of_descent, color="0.75", lw=0.5, ls="-")
    axes[0].plot(steps, of_descent, ".", color="0.45", ms=2.2, label="descent")
    axes[0].plot(times, central.record.eigenvalues[:, 0], label="central flow", **blue)
    axes[0].plot(times, of_flow, label="gradient flow", **black)
    axes[0].annotate(r"$2/\eta$", (end, 2 / rate), (2, -2), textcoords="offset points")
    axes[0].set(ylabel="sharpness $S$", ylim=(0, 36))
    axes[0].legend(loc="lower center", ncols=3)
    weights = np.asarray(descent.parameterization.layers).reshape(count + 1, -1)
    # An oscillation +-delta around a line has second differences of size 4 |delta|.
    spread = np.sum((weights[2:] - 2 * weights[1:-1] + weights[:-2]) ** 2, axis=1) / 16
    middles = (np.arange(len(spread) - WINDOW + 1) + (WINDOW + 1) / 2) * rate
    axes[1].plot(middles, running(spread), **gray)
    axes[1].plot(times, central.record.variance, **blue)
    axes[1].set(ylabel="variance of $w$")
    losses = running(np.asarray(descent.loss))
    axes[2].plot((np.arange(len(losses)) + (WINDOW - 1) / 2) * rate, losses, **gray)
    axes[2].plot(times, central.record.averaged_loss, **blue)
    axes[2].plot(times, plain.loss, **black)
    axes[2].set(ylabel="mean loss", yscale="log", xlabel=r"time $\eta k$", xlim=(0, end))
    figure.align_ylabels()
    return figure


def tails(start, loss, rates, steps=6000, kept=48):
    """The last iterates of descents with all step sizes, shape [rate, kept, d]; NaN where they diverge."""

    @jax.jit
    @jax.vmap
    def run(rate):
        last = range(steps - kept + 1, steps + 1)
        return ddln.descend(start, loss, optax.sgd(rate), steps, ts=last, dual=False, throw=False)

    runs = run(rates)
    fine = np.asarray(ddln.is_okay(runs.result))
    return np.where(fine[:, None, None], runs.theta, np.nan)


def branch(start, loss, rates):
    """The orbit of period two at increasing step sizes, each found from the one before."""
    find = jax.jit(
        lambda layers, rate: theory.period_two_orbit(ddln.DeepDiagonal(layers), loss, rate)
    )
    found, layers = [], start.layers
    for rate in rates:
        orbit = find(layers, rate)
        assert orbit.result == ddln.RESULTS.successful, rate
        layers = orbit.points.layers[0]
        gap = jnp.prod(orbit.gap_factors, axis=0)
        found.append((jnp.sort(orbit.theta[:, 0]), orbit.multipliers.real, gap.reshape(-1)))
    return [np.array(column) for column in zip(*found, strict=True)]


def draw_orbits():
    """Diagrams of descents over the step size, and the multipliers of the orbits."""
    X = np.array([[1.0, 0.4], [0.2, 0.9]])
    one = ddln.LeastSquares(np.ones((1, 1)), np.ones(1))
    two = ddln.LeastSquares(X, X @ np.array([1.0, 0.7]))
    balanced = ddln.DeepDiagonal.balanced
    problems = (
        ("one coordinate, two layers", balanced(jnp.ones(1), 2), one),
        ("two coordinates, three layers", balanced(jnp.array([1.0, 0.7]), 3), two),
    )
    rates, exact = np.linspace(0.9, 1.5, 500), np.linspace(1.02, 1.4, 60)
    figure, axes = plt.subplots(
        2, len(problems), figsize=(6.75, 3.9), sharex="col", height_ratios=[1.6, 1]
    )
    for (top, bottom), (name, minimum, loss) in zip(axes.T, problems, strict=True):
        edge = float(theory.stable_step_size(minimum, loss))
        shifted = ddln.DeepDiagonal(0.97 * minimum.layers)
        thetas = tails(shifted, loss, jnp.asarray(rates * edge))[:, :, 0]
        x = np.repeat(rates, thetas.shape[1])
        top.plot(x, thetas.reshape(-1), ",", color="0.45", rasterized=True)
        near = ddln.descend(shifted, loss, optax.sgd(1.02 * edge), 20_000).final
        orbit, multipliers, gaps = branch(near, loss, exact * edge)
        # The multiplier along the oscillation falls from 1 through -1.
        falling = multipliers.min(axis=1)
        doubled = theory.period_doubling(near, loss, 1.02 * edge)
        assert doubled.result == ddln.RESULTS.successful
        threshold = float(doubled.step_size) / edge
        stable = exact <= threshold
        for column in orbit.T:
            top.plot(exact[stable], column[stable], color=LOOKS[0], lw=1.2)
            top.plot(exact[~stable], column[~stable], color=LOOKS[0], lw=1.0, ls="--")
        bottom.plot(exact, falling, color=LOOKS[0], label="along the orbit")
        for number, column in enumerate(gaps.T):
            bottom.plot(
                exact, column, color=LOOKS[1], lw=1.0, ls="-.", label=None if number else "gaps"
            )
        for ax in (top, bottom):
            for line in (1.0, threshold):
                ax.axvline(line, color="0.6", lw=0.7, ls=":")
        bottom.axhline(-1, color="0.6", lw=0.7, ls=":")
        top.set(title=name, ylabel=r"$\theta_1$, last iterates", xlim=(rates[0], rates[-1]))
        bottom.set(xlabel=r"step size $\eta$ over $2 / S$", ylabel="multipliers", ylim=(-1.6, 1.1))
        bottom.legend(loc="lower left")
        print(name, "edge", edge, "doubling at", threshold)
    return figure


def draw_spectrum(scale=1e-3):
    """The density of the spectrum along a flow from a small start, the index, and the loss."""
    X = np.eye(8, 12) + 0.1 * np.random.default_rng(0).normal(size=(8, 12))
    loss = ddln.LeastSquares(X, X[:, :4] @ np.array([2.0, -1.1, 0.7, 0.45]))
    unit = ddln.DeepDiagonal.random(jax.random.key(2), 2, 12)
    path = ddln.vanishing_limit(unit, loss)
    jumps = path.ts[: int(path.stats["num_plateaus"])] * np.log(1 / scale)
    end = 1.15 * float(jumps[-1])
    times = np.linspace(0.0, end, 400)
    flow = ddln.gradient_flow(ddln.DeepDiagonal(scale * unit.layers), loss, end, ts=times)
    edges = np.concatenate([-np.geomspace(10, 1e-2, 40), np.geomspace(1e-2, 10, 40)])

    @jax.jit
    @jax.vmap
    def counts(one):
        return theory.hessian_inertia(one, loss, edges, tolerance=1e-8).below

    below = np.asarray(counts(flow.parameterization))
    figure, axes = plt.subplots(2, 1, figsize=(6.0, 3.8), sharex=True, height_ratios=[2.2, 1])
    density = np.diff(below, axis=1).T.astype(float)
    density[density == 0] = np.nan
    mesh = axes[0].pcolormesh(times, edges, density[:, 1:], cmap="viridis_r", norm=LogNorm(1, 24))
    bar = figure.colorbar(mesh, ax=axes, pad=0.01, aspect=30)
    bar.set_ticks([1, 2, 5, 10, 20], labels=["1", "2", "5", "10", "20"])
    bar.minorticks_off()
    bar.set_label("eigenvalues in a bin")
    axes[0].set_yscale("symlog", linthresh=1e-2, linscale=0.2)
    axes[0].set_yticks(
        [-10, -1, -0.1, 0, 0.1, 1, 10], ["$-10$", "$-1$", "$-0.1$", "0", "0.1", "1", "10"]
    )
    axes[0].set(ylabel="eigenvalues of $H$")
    # Below the bins next to zero.
    axes[1].step(times, below[:, 39], color=LOOKS[0], ls="-", where="mid")
    axes[1].set_ylabel(r"number below $-0.01$", color=LOOKS[0])
    axes[1].set(xlabel="time $t$", xlim=(0, end), ylim=(0, 13))
    right = axes[1].twinx()
    right.plot(times, flow.loss, color=LOOKS[1], lw=1.0, ls="--")
    right.set_ylabel("loss", color=LOOKS[1])
    right.spines.right.set_visible(True)
    for ax in axes:
        for jump in jumps:
            ax.axvline(float(jump), color="0.6", lw=0.6, ls=":", zorder=0)
    return figure


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    with plots.style():
        draw_episodes().savefig(FOLDER / "edge-of-stability-central.png", dpi=170)
        draw_orbits().savefig(FOLDER / "edge-of-stability-orbits.png", dpi=170)
        draw_spectrum().savefig(FOLDER / "edge-of-stability-spectrum.png", dpi=170)
