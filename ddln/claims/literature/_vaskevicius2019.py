"""Vaškevičius, Kanade and Rebeschini 2019: early stopping of diagonal networks."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.flows import descend
from ddln.losses import LeastSquares
from ddln.parameterizations import PowerDifference

DIM, SAMPLES, SPARSITY, VARIANCE, STEP, STEPS = 100, 200, 10, 5.0, 0.1, 300
RUNS = 20


def _path(key):
    key_X, key_sign, key_noise = jax.random.split(key, 3)
    X = jnp.where(jax.random.bernoulli(key_X, shape=(SAMPLES, DIM)), 1.0, -1.0)
    signs = jnp.where(jax.random.bernoulli(key_sign, shape=(DIM,)), 1.0, -1.0)
    truth = jnp.where(jnp.arange(DIM) < SPARSITY, signs, 0.0)
    y = X @ truth + VARIANCE**0.5 * jax.random.normal(key_noise, (SAMPLES,))
    # u v = 1e-6 / 2: the entropy of this width.
    start = PowerDifference(jnp.full(DIM, 5e-7**0.5), jnp.full(DIM, 5e-7**0.5), 2)
    run = descend(
        start, LeastSquares(X, y, 1 / SAMPLES / 4), optax.sgd(STEP), STEPS, ts=np.arange(STEPS + 1.0),
        dual=False, throw=False,
    )  # fmt: skip
    error = jnp.sum((run.theta - truth[None]) ** 2, axis=1)
    support = jnp.linalg.lstsq(X[:, :SPARSITY], y)[0] - truth[:SPARSITY]
    everything = jnp.linalg.lstsq(X, y)[0] - truth
    return error, jnp.sum(support**2), jnp.sum(everything**2)


@claim(id="vaskevicius2019-early-stopping")
def early_stopping(settings: Settings) -> Evidence:
    r"""Experiment: Early stopping finds the sparse parameter.

    Stopped in time the descent from a tiny start is about as good as least squares on the true support, and
    far better than least squares on all coordinates.

        \min_t |\theta_t - \theta^*|^2 \approx |\theta_S - \theta^*|^2 \ll |\theta_{LS} - \theta^*|^2

    Fixture: $d = 100$, $n = 200$, ten entries of size 1, noise of variance 5, random signs as inputs, $u^2
    - v^2$ with $2 u v = 10^{-6}$, step 0.1, 300 iterations; 20 runs where the source has 100.

    Cost: 100 runs of 300 iterations.

    As summarized: means over the runs; a factor 2 in the error is within the logarithm of the theory.
    """
    keys = jax.random.split(problems.keys(settings, "vaskevicius")[0], RUNS)
    error, support, everything = (np.asarray(a) for a in problems.each(_path, keys))
    with plots.style():
        figure, ax = plt.subplots()
        ax.semilogy(np.median(error, axis=0))
        ax.axhline(np.median(support), color="0.5", ls="--")
        ax.axhline(np.median(everything), color="0.5", ls=":")
        ax.set(xlabel="step", ylabel="squared error")
    best = error.min(1)
    return Evidence(
        (
            measured(
                "best error over that of the support", best.mean() / support.mean(), "<=", 2.0
            ),
            measured(
                "best error over that of least squares", best.mean() / everything.mean(), "<=", 0.2
            ),
            measured(
                "error at the last step over the best one",
                error[:, -1].mean() / best.mean(),
                ">",
                1.0,
            ),
        ),
        figure=figure,
        caption=(
            "Median squared error along the descent; least squares on the support (dashed) and on all "
            "coordinates (dotted)."
        ),
    )


CLAIMS = (early_stopping,)
