"""Berthier 2025: the averaged trajectory and the path of the Lasso."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.limits import lasso_path, vanishing_limit
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

SAMPLES, DIM, PROBLEMS = 3, 4, 256
# Inverse penalties at which both are compared, in units of the first jump.
INVERSE = np.geomspace(1.02, 50.0, 40)


def _both(X, y):
    """At each inverse penalty: the Lasso, and the average of the limit of vanishing two layers up to then."""
    path = lasso_path(X, y, throw=False)
    limit = vanishing_limit(
        DeepDiagonal.zero_last(jnp.ones(DIM), 2), LeastSquares(X, y), throw=False
    )
    mus = jnp.asarray(INVERSE) / path.penalties[0]
    ends = jnp.append(limit.ts[1:], jnp.inf)
    spent = jnp.clip(mus[:, None] - limit.ts[None], 0.0, (ends - limit.ts)[None])
    spent = jnp.where(jnp.isfinite(limit.ts)[None], spent, 0.0)
    average = spent @ limit.theta / mus[:, None]
    lasso = jax.vmap(path.at)(1 / mus)
    return mus, lasso, average, path.penalties, path.theta


def run(settings: Settings):
    rng = np.random.default_rng(settings.seed)
    X, y = rng.normal(size=(PROBLEMS, SAMPLES, DIM)), rng.normal(size=(PROBLEMS, SAMPLES))
    found = problems.each(_both, jnp.asarray(X), jnp.asarray(y))
    *both, penalties, breakpoints = (np.asarray(one) for one in found)
    monotone = [is_monotone(*path) for path in zip(penalties, breakpoints, strict=True)]
    return X, y, *both, np.array(monotone)


def is_monotone(penalties, theta) -> bool:
    """True if mu x(mu) is monotone in each coordinate: it is linear in mu between the breakpoints."""
    first = penalties > 0
    slopes = np.diff(theta[first] / penalties[first, None], axis=0)
    slopes = np.vstack([slopes, theta[-1]])
    slack = 1e-9 * np.abs(slopes).max()
    return bool(np.all((slopes >= -slack).all(0) | (slopes <= slack).all(0)))


@claim(id="berthier2025-lasso")
def follows(settings: Settings) -> Evidence:
    r"""Theorem 2.1: The average is the Lasso under monotonicity.

    In the limit of a vanishing start the average of the trajectory up to the rescaled time $\mu$ is the
    Lasso with the penalty $1/\mu$, if $\mu\, x(\mu)$ is monotone along the path of the Lasso.

        \frac1\mu \int_0^\mu \theta(\tau) d\tau = \operatorname{arg\,min} \tfrac12 |X x - y|^2 + \frac1\mu
        \|x\|_1

    Condition: $\mu\, x(\mu)$ is monotone in every coordinate; without it the average is only near.

    Fixture: Gaussian problems with $d = 4$, $n = 3$.

    As summarized: the average of the exact limit against the exact path.
    """
    _, _, mus, lasso, average, monotone = run(settings)
    error = np.abs(average - lasso).max(axis=(1, 2)) / np.abs(lasso).max(axis=(1, 2))
    shown = int(np.flatnonzero(~monotone)[0])
    with plots.style():
        figure, ax = plt.subplots()
        lines = ax.semilogx(mus[shown], lasso[shown])
        for line, row in zip(lines, average[shown].T, strict=True):
            ax.plot(mus[shown], row, "--", color=line.get_color())
        ax.set(xlabel=r"$\mu$", ylabel=r"$x(\mu)$")
    what = "largest relative distance of the average from the Lasso"
    return Evidence(
        (
            measured(what, error[monotone], "<=", 1e-8, case="with the condition"),
            measured(what, error[~monotone], "<=", 1e-8, case="without it"),
        ),
        figure=figure,
        caption=(
            "A problem whose path is not monotone: the Lasso (lines) and the average of the trajectory "
            "(dashed) against the inverse penalty."
        ),
    )


@claim(id="berthier2025-share")
def share(settings: Settings) -> Evidence:
    r"""As summarized: How often the path is monotone.

    Of Gaussian problems about three in four have a monotone path, and on the others the average is nearly
    optimal for the Lasso.

        P(\mu\, x(\mu) \text{ is monotone}) \approx 0.76

    Fixture: 256 Gaussian problems with $d = 4$, $n = 3$, where the source of the numbers took 1000.

    Cost: 1000 problems.

    The share of problems, within three standard errors of both samples; the relative excess of the
    objective.
    """
    monotone = run(settings)[-1]
    error = np.sqrt(0.76 * 0.24 * (1 / PROBLEMS + 1 / 1000))
    return Evidence(
        (compared("share of monotone paths", monotone.mean(), 0.76, 3 * error),),
        remark="The share at 256 problems has the standard error 0.027.",
    )


CLAIMS = (follows, share)
