"""Chou, Maly and Rauhut 2023: sparse recovery by the flow of deep factorizations."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.limits import limit, minimum_l1
from ddln.losses import LeastSquares
from ddln.parameterizations import PowerDifference

SAMPLES, DIM, DEPTH, PROBLEMS = 20, 40, 3, 12
SPARSITIES = np.array([2, 4, 6, 8, 10, 12])
# Of the weights: the excess of the norm is at most of the order alpha^(L - 2), whatever the data.
ALPHA = 1e-4
# Of the parameter, relative: far above the error of the limit and far below that of another solution.
RECOVERED = 1e-3


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """X and sparse parameters, a row for each sparsity and problem."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(len(SPARSITIES) * PROBLEMS, SAMPLES, DIM)) / SAMPLES**0.5
    sparsity = np.repeat(SPARSITIES, PROBLEMS)
    truth = rng.normal(size=(len(X), DIM))
    return X, np.where(np.arange(DIM) < sparsity[:, None], truth, 0.0)


def _end(X, y):
    start = jnp.full(DIM, ALPHA)
    return limit(PowerDifference(start, start, DEPTH), LeastSquares(X, y), throw=False).theta


@claim(id="chou2023-recovery")
def recovery(settings: Settings) -> Evidence:
    r"""Abstract: More is less: recovery like that of the least l1 norm.

    If the measurements have a solution, the flow of a deeply factorized vector from a small start ends
    near the solution of least l1 norm, which predicts the share of sparse vectors that it recovers.

        \theta = u^{\odot L} - v^{\odot L}, \qquad \|\theta_\infty\|_1 - \min_{X \theta = y}
        \|\theta\|_1 \to 0 \quad (\alpha \to 0)

    Fixture: $n = 20$, $d = 40$, normal X / $\sqrt{20}$; 2 to 12 normal entries that are not zero, 12 problems
    each; $L = 3$ from $u = v = 10^{-4}$. The sizes are this package's choice.

    As summarized: the ends of the flow by the convex dual against linear programs.
    """
    X, truth = data(settings.seed)
    y = np.einsum("pni,pi->pn", X, truth)
    ends = np.asarray(problems.each(_end, jnp.asarray(X), jnp.asarray(y)))
    least = np.stack([minimum_l1(*one) for one in zip(X, y, strict=True)])
    excess = np.abs(ends).sum(1) / np.abs(least).sum(1) - 1
    size = np.linalg.norm(truth, axis=1)
    ours, theirs = (
        (np.linalg.norm(one - truth, axis=1) / size < RECOVERED).reshape(-1, PROBLEMS)
        for one in (ends, least)
    )
    with plots.style():
        figure, ax = plt.subplots()
        ax.plot(SPARSITIES, theirs.mean(1), "-", label=r"least $\ell_1$ norm")
        ax.plot(SPARSITIES, ours.mean(1), "o", label="end of the flow")
        ax.set(xlabel="entries that are not zero", ylabel="share recovered")
        ax.legend()
    return Evidence(
        (
            measured("largest excess of the norm, relative", np.abs(excess), "<=", ALPHA),
            measured(
                "problems that one recovers and the other does not", np.sum(ours != theirs), "<=", 0
            ),
            measured("share recovered, fewest entries", ours[0].mean(), ">=", 1.0),
            measured("share recovered, most entries", ours[-1].mean(), "<=", 0.5),
        ),
        figure=figure,
        caption=(
            "The share of sparse vectors that are recovered against the number of their entries: that of the "
            "flow is that of the least l1 norm."
        ),
    )


CLAIMS = (recovery,)
