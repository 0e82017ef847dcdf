"""Draws the figures of the page "How good the end is": `python docs/assets/phase_diagrams.py [name ...]`."""

import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from scipy.special import gamma

import ddln
from ddln import plots
from ddln.asymptotics import recovery_threshold

jax.config.update("jax_enable_x64", True)

FOLDER = Path(__file__).parent
DENSITY = 0.1
SIGNAL = ddln.Signal.sparse(DENSITY)
DIM, MOST, RUNS = 100, 80, 20
LANES = 64
RING = {"edgecolors": "white", "linewidths": 0.7, "s": 26, "zorder": 3}


def start(depth, scale):
    """Layers of one scale, but for the last, which is zero."""
    return ddln.DeepDiagonal.zero_last(jnp.ones(1), depth, scale)


@partial(jax.jit, static_argnums=0)
def _evolved(depth, log_scale, ratio, noise):
    def one(log_scale, ratio, noise):
        def log_error(log_scale):
            begin = start(depth, jnp.exp(log_scale))
            return jnp.log(ddln.state_evolution(begin, SIGNAL, ratio, noise, throw=False).mse)

        return jax.jvp(log_error, (log_scale,), (jnp.ones_like(log_scale),))

    return jax.vmap(one)(log_scale, ratio, noise)


def evolved(depth, scale, ratio, noise):
    """log mse and its derivative in the logarithm of the scale, for arrays that are broadcast."""
    points = np.broadcast_arrays(np.log(scale), ratio, noise)
    size = points[0].size
    # One program for each depth.
    padded = [np.resize(part, -(-size // LANES) * LANES).reshape(-1, LANES) for part in points]
    found = [_evolved(depth, *map(jnp.asarray, chunk)) for chunk in zip(*padded, strict=True)]
    return tuple(
        np.concatenate(part)[:size].reshape(points[0].shape) for part in zip(*found, strict=True)
    )


@partial(jax.jit, static_argnums=0)
def ends(depth, scale, ratio, noise):
    """Limits and signals, shape [RUNS, DIM], for data that differ in their number and noise alone."""

    def run(key):
        keys = jax.random.split(key, 3)
        truth = SIGNAL.draw(keys[0], DIM)
        samples = jnp.round(ratio * DIM)
        # Rows beyond the samples are zero: one program for all ratios.
        kept = jnp.arange(MOST) < samples
        X = jax.random.normal(keys[1], (MOST, DIM)) / jnp.sqrt(samples)
        y = X @ truth + noise * jax.random.normal(keys[2], (MOST,))
        loss = ddln.LeastSquares(jnp.where(kept[:, None], X, 0), jnp.where(kept, y, 0))
        network = ddln.DeepDiagonal.zero_last(jnp.ones(DIM), depth, scale)
        end = ddln.limit(network, loss, throw=False)
        return jnp.where(ddln.is_okay(end.result), end.theta, jnp.nan), truth

    return jax.vmap(run)(jax.random.split(jax.random.key(1), RUNS))


def simulated(depth, scales, ratio, noise=0.0):
    """Means and standard errors of the error, of the same data for all scales."""
    rows = []
    for scale in scales:
        theta, truth = (np.asarray(part) for part in ends(depth, scale, ratio, noise))
        errors = np.nanmean(np.square(theta - truth), axis=1)
        rows.append((np.nanmean(errors), np.nanstd(errors, ddof=1) / RUNS**0.5))
    return np.array(rows).T


def steepest(log_scales, slopes):
    """The scale at which the error changes fastest, by a parabola through three points of the slope."""
    best = np.clip(np.argmax(slopes, axis=1), 1, len(log_scales) - 2)
    rows = np.arange(len(slopes))
    left, top, right = (slopes[rows, best + k] for k in (-1, 0, 1))
    shift = 0.5 * (left - right) / (left - 2 * top + right)
    return np.exp(log_scales[best] + shift * (log_scales[1] - log_scales[0]))


def draw_scale():
    """Error over scale and n/d, with the ridge between lazy and rich, and simulated limits on top."""
    scales, ratios = np.geomspace(1e-4, 10, 41), np.linspace(0.02, 0.98, 33)
    figure, axes = plt.subplots(1, 2, figsize=(6.75, 2.7), sharey=True)
    norm = LogNorm(1e-5, 1)
    edge = float(recovery_threshold(start(2, 1.0), SIGNAL))
    for ax, depth in zip(axes, (2, 4), strict=True):
        log_error, slope = evolved(depth, scales, ratios[:, None], 0.0)
        error = np.exp(log_error)
        picture = ax.pcolormesh(
            scales, ratios, np.clip(error, *(norm.vmin, norm.vmax)), norm=norm, rasterized=True
        )
        levels = 10.0 ** np.arange(-4, 0)
        ax.contour(scales, ratios, error, levels, colors="white", linewidths=0.4)
        below = ratios < edge
        ridge = steepest(np.log(scales), slope[below])
        ax.plot(ridge, ratios[below], color="#D55E00", label="ridge")
        ax.axhline(edge, color="white", ls=(0, (4, 2)), lw=1, label="recovery")
        for ratio in (0.1, 0.25, 0.5):
            at = np.array([1e-3, 0.1, 0.5, 3.0])
            mean, _ = simulated(depth, at, ratio)
            mean = np.clip(mean, norm.vmin, norm.vmax)
            ax.scatter(at, np.full(len(at), ratio), c=mean, norm=norm, **RING)
        ax.set(xscale="log", xlabel="scale of the layers", title=f"{depth} layers")
    axes[0].set_ylabel("$n/d$")
    axes[1].legend(loc="upper left", labelcolor="white")
    figure.colorbar(picture, ax=axes, label="mean squared error", extend="min")
    return figure


def draw_depth():
    """Error over depth and n/d at two scales."""
    depths, ratios = [2, 3, 4, 6, 8], np.linspace(0.02, 0.8, 40)
    figure, axes = plt.subplots(1, 2, figsize=(6.75, 2.3), sharey=True)
    norm = LogNorm(1e-5, 1)
    edge = float(recovery_threshold(start(2, 1.0), SIGNAL))
    scales = np.array([0.3, 1.5])
    found = np.exp([evolved(depth, scales, ratios[:, None], 0.0)[0] for depth in depths])
    for index, (ax, scale) in enumerate(zip(axes, scales, strict=True)):
        error = found[:, :, index]
        cells = np.arange(len(depths) + 1) - 0.5
        step = 0.5 * (ratios[1] - ratios[0])
        borders = np.append(ratios - step, ratios[-1] + step)
        picture = ax.pcolormesh(
            borders, cells, np.clip(error, norm.vmin, norm.vmax), norm=norm, rasterized=True
        )
        ax.axvline(edge, color="white", ls=(0, (4, 2)), lw=1)
        for row, curve in enumerate(error):
            # Where the error falls to a tenth of that of theta = 0.
            if curve.min() < 0.1:
                half = np.interp(-np.log(0.1), -np.log(curve), ratios)
                ax.plot([half, half], [row - 0.5, row + 0.5], color="#D55E00", lw=1.2, ls="-")
            if depths[row] in (2, 4, 8):
                at = np.array([0.1, 0.25, 0.5])
                mean = [simulated(depths[row], [scale], ratio)[0, 0] for ratio in at]
                mean = np.clip(mean, norm.vmin, norm.vmax)
                ax.scatter(at, np.full(len(at), row), c=mean, norm=norm, **RING)
        ax.set(xlabel="$n/d$", title=f"layers of the scale {scale:g}")
        ax.set_yticks(np.arange(len(depths)), [str(depth) for depth in depths])
    axes[0].set_ylabel("depth $L$")
    figure.colorbar(picture, ax=axes, label="mean squared error", extend="min")
    return figure


def best_scales(depth, ratios, noise):
    """The scale of least error for each n/d, by bisection on the sign of the derivative."""
    low, high = np.full(len(ratios), np.log(1e-3)), np.full(len(ratios), np.log(10.0))
    for _ in range(20):
        middle = 0.5 * (low + high)
        _, slope = evolved(depth, np.exp(middle), ratios, noise)
        low, high = np.where(slope < 0, middle, low), np.where(slope < 0, high, middle)
    return np.exp(0.5 * (low + high))


def draw_optimum(noise=1.0):
    """Error against the scale with noise, and the best scale."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.75, 2.5))
    scales, shown = np.geomspace(1e-2, 5, 61), np.array([0.1, 0.2, 0.35])
    ratios = np.linspace(0.1, 0.95, 32)
    looks = list(plt.rcParams["axes.prop_cycle"])
    log_error, _ = evolved(3, scales, shown[:, None], noise)
    best = best_scales(3, shown, noise)
    for ratio, values, scale, look in zip(shown, np.exp(log_error), best, looks, strict=False):
        left.semilogx(scales, values, label=f"$n/d = {ratio:g}$", **look)
        at = np.geomspace(3e-2, 3, 4)
        mean, error = simulated(3, at, float(ratio), noise)
        left.errorbar(at, mean, error, fmt="o", ms=2.5, lw=0.8, color=look["color"])
        least = np.interp(np.log(scale), np.log(scales), values)
        left.plot(scale, least, "*", ms=8, color=look["color"], mec="white", mew=0.5)
    left.set(xlabel="scale of the layers, $L = 3$", ylabel="mean squared error")
    left.set_ylim(0.3, 1.25)
    left.legend(loc="lower left")
    for depth, look in zip((2, 3, 4), looks, strict=False):
        right.semilogy(ratios, best_scales(depth, ratios, noise), label=f"$L = {depth}$", **look)
        for ratio in (0.15, 0.3):
            (near,) = best_scales(depth, np.array([ratio]), noise)
            at = near * np.geomspace(0.5, 2, 5)
            a, b, _ = np.polyfit(np.log(at), simulated(depth, at, ratio, noise)[0], 2)
            right.plot(ratio, np.exp(-b / (2 * a)), "o", color=look["color"])
    right.set(xlabel="$n/d$", ylabel="scale of least error")
    right.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    right.set_yticks([], minor=True)
    right.legend()
    return figure


def norms(values, powers):
    """(mean |theta|^r)^(1/r) for each r, from the means."""
    return [np.asarray(value) ** (1 / r) for value, r in zip(values, powers, strict=True)]


def draw_norms(ax, powers=(1.0, 1.25, 1.5, 2.0), depth=3, scale=1e-3):
    """l_r norms of the end over those of the signal, with their elbow at recovery."""
    ratios, shown = np.geomspace(0.01, 0.9, 60), (0.05, 0.12, 0.25, 0.5)

    def observe(theta):
        return [jnp.abs(theta) ** r for r in powers]

    @jax.jit
    @jax.vmap
    def predicted(ratio):
        begin = start(depth, scale)
        return ddln.state_evolution(begin, SIGNAL, ratio, observe=observe, throw=False).observed

    curves = norms(predicted(jnp.asarray(ratios)), powers)
    sizes = [np.abs(ends(depth, scale, ratio, 0.0)[0]) for ratio in shown]
    points = np.array([norms([np.nanmean(size**r) for r in powers], powers) for size in sizes]).T
    looks = plt.rcParams["axes.prop_cycle"]
    for r, curve, values, look in zip(powers, curves, points, looks, strict=False):
        normal = 2 ** (r / 2) * gamma((r + 1) / 2) / np.pi**0.5
        whole = (DENSITY ** (1 - r / 2) * normal) ** (1 / r)
        ax.loglog(ratios, curve / whole, label=f"$r = {r:g}$", **look)
        ax.plot(shown, values / whole, "o", ms=2.5, color=look["color"])
    edge = float(recovery_threshold(start(depth, 1.0), SIGNAL))
    ax.axvline(edge, color="0.5", lw=0.8, ls=":")
    ax.set(xlabel="$n/d$", ylabel=r"$|\theta|_r / |\theta^*|_r$")
    ax.legend(loc="lower right")


def power_law(exponent, levels=14):
    """The law of |theta*_i| ~ i^-exponent, a normal law for each octave of i, with E theta*^2 = 1."""
    octaves = np.arange(levels)
    probabilities = 2.0 ** -(octaves + 1)
    probabilities[-1] *= 2
    deviations = 2.0 ** (exponent * octaves)
    deviations /= np.sqrt(probabilities @ deviations**2)
    return ddln.Signal(np.zeros(levels), deviations, probabilities)


def draw_power_laws(ax):
    """Error against n/d for signals whose sorted entries decay with a power."""
    ratios = 2.0 ** np.linspace(-10, -1, 28)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    def error(ratio, signal):
        return ddln.state_evolution(start(3, 1e-3), signal, ratio, throw=False).mse

    looks = plt.rcParams["axes.prop_cycle"]
    for beta, look in zip((0.75, 1.0, 1.5), looks, strict=False):
        values = np.asarray(error(jnp.asarray(ratios), power_law(beta)))
        ax.loglog(ratios, values, label=rf"$\beta = {beta:g}$", **look)
        inside = (ratios > 2.0**-9) & (ratios < 2.0**-3)
        slope = np.polyfit(np.log(ratios[inside]), np.log(values[inside]), 1)[0]
        print(f"beta {beta}: exponent {-slope:.2f}, of the best terms {2 * beta - 1}")
        centre = np.sqrt(ratios[inside][0] * ratios[inside][-1])
        line = np.interp(np.log(centre), np.log(ratios), values)
        reference = 0.4 * line * (ratios[inside] / centre) ** (1 - 2 * beta)
        ax.loglog(ratios[inside], reference, color="0.6", lw=0.7)
    ax.loglog(ratios, 1 - ratios, color="0.3", lw=0.8, label="one layer")
    ax.set(xlabel="$n/d$", ylabel="mean squared error")
    ax.legend(loc="lower left")


def draw_laws():
    figure, axes = plt.subplots(1, 2, figsize=(6.75, 2.5))
    draw_norms(axes[0])
    draw_power_laws(axes[1])
    return figure


FIGURES = {"scale": draw_scale, "depth": draw_depth, "optimum": draw_optimum, "laws": draw_laws}

if __name__ == "__main__":
    with plots.style():
        for name in sys.argv[1:] or FIGURES:
            FIGURES[name]().savefig(FOLDER / f"phase-diagrams-{name}.png", dpi=200)
