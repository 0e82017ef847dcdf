"""Draws the figures of the page "Noise and momentum": `python docs/assets/noise_and_momentum.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ddln
from ddln import plots, problems, theory

FOLDER = Path(__file__).parent
SAMPLES, DIM, SCALE = 20, 40, 0.3
STEP_SIZES = np.array([0.01, 0.02, 0.03, 0.05, 0.07, 0.1])
INERTIAS = np.geomspace(0.03, 30, 10)
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]


def problem(seed):
    """A sparse regression, and the start u = 0.3, v = 0 of all runs on it."""
    made = problems.sparse_regression(jax.random.key(seed), SAMPLES, DIM, sparsity=4)
    return made, ddln.DeepDiagonal.zero_last(jnp.ones(DIM), 2, SCALE)


def error(theta, truth):
    return np.sum(np.square(np.asarray(theta) - np.asarray(truth)), axis=-1)


def stochastic(network, loss, noise, step_size, count, t1=200.0, ts=None):
    @jax.jit
    @jax.vmap
    def paths(key):
        return ddln.stochastic_flow(
            network,
            loss,
            t1,
            key=key,
            noise=noise,
            step_size=step_size,
            steps=10_000,
            ts=ts,
            throw=False,
        )

    return paths(jax.random.split(jax.random.key(0), count))


def real_sgd(made, step_size, count, t1=200.0):
    """theta at the end and the shrinkage of the gaps, for single samples drawn with replacement."""
    X, y = np.asarray(made.X), np.asarray(made.y)
    rng = np.random.default_rng(0)
    u, v = np.full((count, DIM), SCALE), np.zeros((count, DIM))
    for _ in range(round(t1 / step_size)):
        rows = X[drawn := rng.integers(SAMPLES, size=count)]
        residual = np.sum(rows * u * v, axis=1) - y[drawn]
        g = SAMPLES * residual[:, None] * rows
        u, v = u - step_size * g * v, v - step_size * g * u
    return u * v, -np.log(np.abs(u**2 - v**2) / SCALE**2)


def draw_noise():
    made, network = problem(1)
    loss, truth = made.loss(), made.theta_true
    plain = error(ddln.limit(network, loss).theta, truth)
    figure, axes = plt.subplots(1, 3, figsize=(6.75, 2.2))

    ts = np.concatenate([[0.0], np.geomspace(0.1, 200, 60)])
    for color, step_size in zip(COLORS, (0.02, 0.05, 0.1), strict=False):
        path = stochastic(network, loss, ddln.SampleNoise(), step_size, 1, ts=ts)
        size = np.exp(-np.asarray(path.record.shrinkage)[0, :, 0])
        low, median, high = np.quantile(size, [0.1, 0.5, 0.9], axis=1)
        times = np.asarray(path.ts)[0]
        axes[0].plot(times, median, color=color, label=rf"$\gamma = {step_size}$")
        axes[0].fill_between(times, low, high, color=color, alpha=0.2, linewidth=0)
    axes[0].set_xscale("symlog", linthresh=0.1)
    axes[0].set_xlabel("time")
    axes[0].set_ylabel(r"$|w_+ w_-|(t)\,/\,|w_+ w_-|(0)$")
    axes[0].legend(loc="lower left")

    rows = {"exact covariance": ddln.SampleNoise(), "isotropic model": ddln.IsotropicNoise()}
    for color, (name, noise) in zip(COLORS, rows.items(), strict=False):
        ends = [stochastic(network, loss, noise, size, 100).theta[:, -1] for size in STEP_SIZES]
        errors = [error(end, truth) / plain for end in ends]
        low, median, high = np.quantile(errors, [0.25, 0.5, 0.75], axis=1)
        axes[1].plot(STEP_SIZES, median, color=color, label=name)
        axes[1].fill_between(STEP_SIZES, low, high, color=color, alpha=0.2, linewidth=0)
        print(name, median)
    descents = [real_sgd(made, size, 100) for size in STEP_SIZES]
    errors = [np.median(error(end, truth) / plain) for end, _ in descents]
    print("SGD", errors)
    axes[1].plot(STEP_SIZES, errors, "ko", label="SGD")
    axes[1].axhline(1.0, color="0.6", linewidth=0.8)
    axes[1].set_xlabel(r"step size $\gamma$")
    axes[1].set_ylabel("error of recovery / without noise")
    axes[1].legend(loc="lower left")

    step_size = 0.02
    _, truly = real_sgd(made, step_size, 400)
    truly = truly.mean(axis=0)
    for color, marker, (name, noise) in zip(COLORS, "o^", rows.items(), strict=False):
        path = stochastic(network, loss, noise, step_size, 400)
        model = np.asarray(path.record.shrinkage[:, -1, 0]).mean(axis=0)
        ratio = model / truly
        print(name, "shrinkage over SGD", ratio.min(), model.mean() / truly.mean(), ratio.max())
        axes[2].plot(truly, model, marker, color=color, label=name, markerfacecolor="none")
    ends = np.array([0.8 * truly.min(), 1.2 * truly.max()])
    axes[2].plot(ends, ends, color="0.6", linewidth=0.8)
    ticks = [0.02, 0.05, 0.1]
    axes[2].set_xscale("log")
    axes[2].set_yscale("log")
    axes[2].set_xticks(ticks, [str(tick) for tick in ticks])
    axes[2].set_yticks(ticks, [str(tick) for tick in ticks])
    axes[2].minorticks_off()
    axes[2].set_xlabel("shrinkage by SGD, per coordinate")
    axes[2].set_ylabel("shrinkage by the model")
    axes[2].legend(loc="upper left")
    figure.get_layout_engine().set(wspace=0.06)
    figure.savefig(FOLDER / "noise-sparsifies.png")


def heavy_ball(made, inertia, steps, t1):
    """theta at the end of gradient descent with momentum that has this inertia to second order."""
    h = t1 / steps
    beta = (2 * inertia - h) / (2 * inertia + h)
    step_size = h * (1 - beta)
    X, y = np.asarray(made.X), np.asarray(made.y)

    def slopes(w):
        return X.T @ (X @ (w[0] * w[1]) - y) * w[::-1]

    previous = np.stack([np.full(DIM, SCALE), np.zeros(DIM)])
    current = previous - step_size / (1 + beta) * slopes(previous)
    for _ in range(steps - 1):
        change = beta * (current - previous) - step_size * slopes(current)
        previous, current = current, current + change
    return current[0] * current[1]


def draw_momentum():
    made, network = problem(1)
    loss = made.loss()
    figure, axes = plt.subplots(1, 3, figsize=(6.75, 2.2))

    ts = np.concatenate([np.linspace(0, 20, 400), np.geomspace(20.1, 300, 200)])
    coordinate = int(jnp.argmax(jnp.abs(made.theta_true)))
    for color, inertia in zip(COLORS, (0.1, 1.0, 3.0, 10.0), strict=True):
        flow = ddln.momentum_flow(network, loss, 300.0, inertia=inertia, ts=ts, rtol=1e-8)
        pair = flow.record.pair
        size = jnp.exp(jnp.sum(pair.growth, 1)) * jnp.abs(jnp.prod(jnp.cos(pair.angle), 1))
        axes[0].plot(flow.ts, size[:, coordinate], color=color, label=rf"$\lambda = {inertia:g}$")
        print(inertia, theory.momentum_shrinkage(flow, loss).status, float(size[-1].max()))
    axes[0].set_xscale("symlog", linthresh=1)
    axes[0].set_yscale("log")
    axes[0].set_xlabel("time")
    axes[0].set_ylabel(r"$|u^2 - v^2|\,/\,|u_0^2 - v_0^2|$")
    axes[0].legend(loc="lower left")

    scales, changed, measured, by_scale, descents = [], [], [], [], []
    for seed in range(8):
        made, network = problem(seed)
        loss, truth = made.loss(), made.theta_true
        plain = error(ddln.limit(network, loss).theta, truth)

        @jax.jit
        @jax.vmap
        def run(inertia, network=network, loss=loss):
            flow = ddln.momentum_flow(
                network, loss, 1500.0, inertia=inertia, rtol=1e-8, atol=1e-10, throw=False
            )
            start = theory.effective_start(flow)
            size = jnp.sqrt(start.positive * start.negative)
            centred = ddln.PowerDifference(size, size, 2)
            without_shift = ddln.limit(centred, loss, throw=False).theta
            # The start has p = q = SCALE / 2.
            return flow, jnp.square(2 * size / SCALE), without_shift

        flow, size, without_shift = run(jnp.asarray(INERTIAS))
        scales.append(size)
        changed.append(jnp.mean(jnp.any(flow.record.pair.sign_changed[:, -1], axis=1), axis=1))
        measured.append(error(flow.theta[:, -1], truth) / plain)
        by_scale.append(error(without_shift, truth) / plain)
        every = INERTIAS[1::2]
        ends = [heavy_ball(made, inertia, 60_000, 1500.0) for inertia in every]
        descents.append(error(np.array(ends), truth) / plain)
    low, median, high = np.quantile(np.array(scales), [0.1, 0.5, 0.9], axis=(0, 2))
    axes[1].plot(INERTIAS, median, color=COLORS[0], label="effective scale")
    axes[1].fill_between(INERTIAS, low, high, color=COLORS[0], alpha=0.2, linewidth=0)
    share = np.mean(np.array(changed), axis=0)
    axes[1].plot(INERTIAS, share, color=COLORS[1], linestyle="--", label="share with a sign change")
    axes[1].set_ylim(0, 2)
    axes[1].set_xlabel(r"inertia $\lambda$")
    axes[1].set_ylabel(r"$|a_+ a_-|\,/\,|w_+ w_-|(0)$")
    axes[1].legend(loc="upper left")

    for color, name, values in (
        (COLORS[0], "momentum flow", measured),
        (COLORS[2], "its scale alone", by_scale),
    ):
        low, median, high = np.quantile(np.array(values), [0.25, 0.5, 0.75], axis=0)
        axes[2].plot(INERTIAS, median, color=color, label=name)
        axes[2].fill_between(INERTIAS, low, high, color=color, alpha=0.2, linewidth=0)
        print(name, median)
    axes[2].plot(every, np.median(descents, axis=0), "ko", label="descent with momentum")
    axes[2].axhline(1.0, color="0.6", linewidth=0.8)
    axes[2].set_xlabel(r"inertia $\lambda$")
    axes[2].set_ylabel("error of recovery / without inertia")
    axes[2].legend(loc="upper left")
    for ax in axes[1:]:
        ax.set_xscale("log")
    ticks = [0.2, 0.5, 1, 2, 5]
    axes[2].set_yscale("log")
    axes[2].set_yticks(ticks, [str(tick) for tick in ticks])
    axes[2].yaxis.minorticks_off()
    axes[2].set_ylim(0.15, 15)
    print("median scale", np.quantile(np.array(scales), 0.5, axis=(0, 2)), "changed", share)
    figure.get_layout_engine().set(wspace=0.06)
    figure.savefig(FOLDER / "momentum-rescales.png")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    with plots.style():
        draw_noise()
        draw_momentum()
