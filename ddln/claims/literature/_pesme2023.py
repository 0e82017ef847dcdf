"""Pesme and Flammarion 2023: from saddle to saddle, the whole path of vanishing two layers."""

from functools import cache

import equinox as eqx
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.claims.literature import _zhao2026 as example
from ddln.limits import minimum_l1, vanishing_limit
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

SCALE = 1e-100

one_flow = eqx.filter_jit(problems.reduced_flow)


@cache
def flow() -> tuple[np.ndarray, np.ndarray]:
    """Rescaled times, and the flow of two layers from SCALE on the data of the example."""
    unit = np.log(1 / SCALE)
    ts = np.linspace(0, 12, 241) * unit
    start = DeepDiagonal.zero_last(jnp.full(4, SCALE), 2)
    loss = LeastSquares(example.X, example.Y)
    found = problems.finished(one_flow(start, loss, jnp.asarray(ts)))
    return ts / unit, np.asarray(found.theta)


@claim(id="pesme2023-path")
def path(settings: Settings) -> Evidence:
    r"""Theorem 1: The path jumps between saddles.

    In the time $t / \log(1/\alpha)$ the flow from a vanishing start rests at saddles of the loss and jumps
    between them, at times and to points that an algorithm lists; coordinates can drop out.

        \theta^\alpha(\tau \log(1/\alpha)) \to \theta^0(\tau) \quad \text{away from the jumps}

    Fixture: $X = ((1, 0.5, 0.7, 0), (0.5, 1, 0.1, 0.7))$, $y = (1, 0)$, two layers $(\alpha, 0)$ with
    $\alpha = 10^{-100}$.

    As summarized: the flow at the middle of each plateau; the jumps move by the inverse of the logarithm.
    """
    taus, theta = flow()
    limit = example.path()
    jumps = np.append(np.asarray(limit.ts[:4]), 12.0)
    middles = (jumps[:-1] + jumps[1:]) / 2
    rows = [theta[np.abs(taus - tau).argmin()] for tau in middles]
    with plots.style():
        figure, ax = plt.subplots()
        lines = ax.plot(taus, theta)
        for line, row in zip(lines, np.asarray(limit.theta[:4]).T, strict=True):
            ax.stairs(row, jumps, baseline=None, color=line.get_color(), ls=":")
        ax.set(xlabel=r"$t / \log(1/\alpha)$", ylabel=r"$\theta$")
    return Evidence(
        (compared("entry at the middle of a plateau", rows, np.asarray(limit.theta[:4]), 1e-3),),
        figure=figure,
        caption="The flow from $10^{-100}$ (lines) and the path of the limit (dotted) jump together.",
    )


@claim(id="pesme2023-end")
def end(settings: Settings) -> Evidence:
    r"""Theorem 1: The path ends at the least l1 norm.

    After finitely many jumps the path has reached the solution of least l1 norm.

        \theta^0(\tau) = \operatorname{arg\,min}_{X \theta = y} \|\theta\|_1, \qquad \tau \geq \tau_K

    Fixture: random problems with $n = 5$, $d = 12$, standard normal data.

    As summarized: the last plateau against a linear program.
    """
    rng = np.random.default_rng(settings.seed)
    count = min(settings.problems, 16)
    X, y = rng.normal(size=(count, 5, 12)), rng.normal(size=(count, 5))
    found = np.asarray(problems.each(_last, jnp.asarray(X), jnp.asarray(y)))
    least = np.stack([minimum_l1(*one) for one in zip(X, y, strict=True)])
    excess = np.abs(found).sum(1) / np.abs(least).sum(1) - 1
    residual = np.einsum("bnd,bd->bn", X, found) - y
    return Evidence(
        (
            measured("largest excess of the norm", np.abs(excess), "<=", 1e-9),
            measured("largest residual", np.abs(residual), "<=", 1e-9),
        )
    )


def _last(X, y):
    network = DeepDiagonal.zero_last(jnp.ones(X.shape[1]), 2)
    return vanishing_limit(network, LeastSquares(X, y), throw=False).theta[-1]


CLAIMS = (path, end)
