"""Berthier 2023: incremental learning of diagonal networks."""

import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.claims.literature import _zhao2026 as example
from ddln.claims.literature._pesme2023 import one_flow
from ddln.limits import vanishing_limit
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal


def anticorrelated(seed: int, dim: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """More samples than coordinates, and correlations between features that are not positive."""
    rng = np.random.default_rng(seed)
    off = -rng.uniform(0, 0.8 / dim, (dim, dim))
    gram = (off + off.T) / 2
    np.fill_diagonal(gram, 1.0)
    X = np.linalg.qr(rng.normal(size=(dim + 2, dim)))[0] @ np.linalg.cholesky(gram).T
    return X, X @ rng.uniform(0.3, 1.5, dim)


@claim(id="berthier2023-incremental")
def incremental(settings: Settings) -> Evidence:
    r"""As summarized: Coordinates are activated one after another.

    For features with no positive correlation each plateau minimizes the loss with the support on the active
    coordinates, and the active set only grows.

        \theta^k = \operatorname{arg\,min} \{ \mathcal{L}(\theta) : \operatorname{supp} \theta \subseteq S_k
        \}, \qquad S_1 \subset S_2 \subset \cdots

    Fixture: $n = 7$, $d = 5$, unit features with correlations between $-0.16$ and 0, positive true
    parameter.

    The plateaus of vanishing two layers against non-negative least squares on their supports.
    """
    X, y = anticorrelated(settings.seed)
    found = vanishing_limit(DeepDiagonal.zero_last(jnp.ones(5), 2), LeastSquares(X, y))
    count = int(found.stats["num_plateaus"])
    theta, active = np.asarray(found.theta[:count]), np.asarray(found.active[:count])
    best = np.zeros_like(theta)
    for row, support in zip(best, active, strict=True):
        row[support] = nnls(X[:, support], y)[0] if support.any() else 0
    grows = np.all(active[1:] >= active[:-1])
    return Evidence(
        (
            compared("entry of a plateau", theta, best, 1e-10),
            compared("plateaus, one for each coordinate and zero", count, 6, 0.0),
            measured("1 if the active set only grows", float(grows), ">=", 1),
        )
    )


@claim(id="berthier2023-times")
def times(settings: Settings) -> Evidence:
    r"""As summarized: The time of the first jump.

    In the time scaled by the logarithm of the start the jumps settle, with an error of the inverse
    logarithm.

        \tau_1(\alpha) = \tau_1 + O\Bigl(\frac1{\log(1/\alpha)}\Bigr)

    Fixture: the example with $\tau_1 = 1$ of the rational path: $X = ((1, 0.5, 0.7, 0), (0.5, 1, 0.1,
    0.7))$, $y = (1, 0)$; $\alpha = 10^{-20}, 10^{-40}, 10^{-80}$; a coordinate has jumped at half of its
    plateau.

    The order of the error in the logarithm, by which it halves.
    """
    errors = []
    for power in (20, 40, 80):
        unit = power * np.log(10)
        ts = np.append(0, np.linspace(0.99, 1.03, 240)) * unit
        start = DeepDiagonal.zero_last(jnp.full(4, 10.0**-power), 2)
        flow = one_flow(start, LeastSquares(example.X, example.Y), jnp.asarray(ts))
        theta = np.asarray(flow.theta)
        k = int(np.argmax(theta[:, 0] >= 0.4))
        part = (0.4 - theta[k - 1, 0]) / (theta[k, 0] - theta[k - 1, 0])
        errors.append((ts[k - 1] + part * (ts[k] - ts[k - 1])) / unit - 1)
    ratios = np.array(errors[:-1]) / errors[1:]
    return Evidence((compared("ratio of the errors as the logarithm doubles", ratios, 2.0, 0.02),))


CLAIMS = (incremental, times)
