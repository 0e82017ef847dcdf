"""Gunasekar et al. 2018: the margin that two layers maximize."""

from functools import cache

import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.flows import gradient_flow
from ddln.limits import l1_margin, max_margin_l1
from ddln.parameterizations import DeepDiagonal

SAMPLES, DIM = 6, 8


class SlowLoss:
    """A function of the exponential loss, whose flow has the same path in another time."""

    def __init__(self, X):
        self.X = X

    def __call__(self, theta):
        accuracy = -jax.nn.logsumexp(-jnp.sum(self.X * theta[None], axis=1))
        return -jnp.log(jax.nn.softplus(accuracy))


def path(depth: int, scale: float, end: float, seed: int = 0):
    """Inputs with labels one, and layers and theta along the flow, at log-spaced times, and log(1 / loss)."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(SAMPLES, DIM))
    layers = scale * rng.normal(size=(depth, DIM))
    ts = np.append(0, np.geomspace(1e-2, end, 60))
    flow = gradient_flow(
        DeepDiagonal(jnp.asarray(layers)),
        SlowLoss(jnp.asarray(X)),
        ts[-1],
        ts=ts,
        rtol=1e-7,
        atol=1e-9,
        solver=diffrax.Kvaerno5(),
        coordinates="full",
        adjoint=problems.FORWARD,
    )
    theta, layers = np.asarray(flow.theta), np.asarray(flow.parameterization.layers)  # pyright: ignore
    margins = theta @ X.T
    least = margins.min(1)
    accuracy = least - np.log(np.exp(least[:, None] - margins).sum(1))
    return X, layers, theta, accuracy


@cache
def two_layers():
    """The ratio of the margin to the largest one, and log(1 / loss), along the flow of two layers."""
    X, _, theta, accuracy = path(2, 0.5, 1e6)
    ones = np.ones(SAMPLES)
    largest = float(
        l1_margin(jnp.asarray(max_margin_l1(X, ones)), jnp.asarray(X), jnp.asarray(ones))
    )
    ratio = np.asarray(l1_margin(jnp.asarray(theta), jnp.asarray(X), jnp.asarray(ones))) / largest
    return ratio, accuracy


@claim(id="gunasekar2018-margin")
def margin(settings: Settings) -> Evidence:
    r"""As summarized: Two layers maximize the l1 margin.

    On separable data with an exponential loss the direction of two layers tends to that of the largest l1
    margin.

        \frac{\min_i y_i \langle x_i, \theta(t) \rangle}{\|\theta(t)\|_1} \to \max_\theta \frac{\min_i y_i
        \langle x_i, \theta \rangle}{\|\theta\|_1}

    Fixture: six standard normal samples of eight coordinates with labels 1, two random layers of scale 0.5.

    The margin along the flow against a linear program, at losses down to those that floating point cannot
    hold, by the flow of a function of it.
    """
    ratio, accuracy = two_layers()
    with plots.style():
        figure, ax = plt.subplots()
        shown = accuracy > 0
        ax.semilogx(accuracy[shown] / np.log(10), ratio[shown])
        ax.set(xlabel=r"$\log_{10}(1 / \mathcal{L})$", ylabel=r"$\ell_1$ margin, over the largest")
    return Evidence(
        (
            measured("ratio to the largest margin at the end", ratio[-1], ">=", 0.97),
            measured("ratio to the largest margin, at most", ratio, "<=", 1 + 1e-9),
            measured("$\\log_{10}(1/L)$ at the end", accuracy[-1] / np.log(10), ">=", 1e4),
        ),
        figure=figure,
        caption="The l1 margin over the largest one, against the digits of accuracy of the loss.",
    )


CLAIMS = (margin,)
