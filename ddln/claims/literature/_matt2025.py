"""Matt and Stöger 2025: tight rates at which small starts find the least l1 norm."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linprog

from ddln import plots
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared
from ddln.claims.literature._woodworth2020 import DIM, SAMPLES
from ddln.limits import limit, minimum_l1
from ddln.losses import LeastSquares
from ddln.parameterizations import PowerDifference

# Of theta at the start.
SCALES = {
    2: np.array([1e-200, 1e-180]),
    3: np.geomspace(1e-12, 1e-9, 4),
    4: np.geomspace(1e-12, 1e-9, 4),
}


def problem(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """X, y and the largest correlation of the dual certificate off the support."""
    for trial in range(100):
        rng = np.random.default_rng([seed, trial])
        X, y = rng.normal(size=(SAMPLES, DIM)), rng.normal(size=SAMPLES)
        theta = minimum_l1(X, y)
        support = np.abs(theta) > 1e-9
        dual = linprog(
            -y, A_ub=np.vstack([X.T, -X.T]), b_ub=np.ones(2 * DIM), bounds=(None, None)
        ).x
        largest = np.abs(X.T @ dual)[~support].max()
        if support.sum() == SAMPLES and largest < 0.8:
            return X, y, float(largest)
    raise RuntimeError("No problem was found whose certificate is clear.")


def distances(depth: int, seed: int) -> np.ndarray:
    """The l1 distance of the end from the solution of least norm off its support, for each scale.

    On the support it is proportional to that, and cannot be resolved below rounding.
    """
    X, y, _ = problem(seed)
    target, loss = minimum_l1(X, y), LeastSquares(X, y)
    ends = [limit(_start(scale, depth), loss).theta for scale in SCALES[depth]]
    return np.array([np.abs(np.asarray(end))[np.abs(target) < 1e-9].sum() for end in ends])


def _start(scale: float, depth: int) -> PowerDifference:
    weights = jnp.full(DIM, scale ** (1 / depth))
    return PowerDifference(weights, weights, depth)


@claim(id="matt2025-deep")
def deep(settings: Settings) -> Evidence:
    r"""Depth three and more: The error is linear in the scale.

    For $D \geq 3$ layers the distance of the end from the solution of least l1 norm is proportional to the
    scale $\alpha$ of the start of $\theta$.

        \|\theta_\infty(\alpha) - \theta_1\|_1 \sim \alpha, \qquad D \geq 3

    Fixture: $u^D - v^D$ from $u^D = v^D = \alpha$; $n = 4$, $d = 8$, standard normal data; $\alpha =
    10^{-12}$ to $10^{-9}$.

    As summarized: the slope between the two smallest scales.
    """
    numbers = []
    with plots.style():
        figure, ax = plt.subplots()
        for depth in (3, 4):
            found = distances(depth, settings.seed)
            slopes = np.diff(np.log(found)) / np.diff(np.log(SCALES[depth]))
            numbers.append(compared(f"slope, $D = {depth}$", slopes[0], 1.0, 0.02))
            ax.loglog(SCALES[depth], found, "o-", label=f"$D = {depth}$")
        ax.set(xlabel=r"scale $\alpha$", ylabel=r"$\ell_1$ distance")
        ax.legend()
    return Evidence(
        tuple(numbers),
        figure=figure,
        caption="Distance from the solution of least norm against the scale: lines of slope one.",
    )


@claim(id="matt2025-two-layers")
def two_layers(settings: Settings) -> Evidence:
    r"""Depth two: The rate depends on the data.

    For two layers the distance falls more slowly, with an exponent that the data set.

        \|\theta_\infty(\alpha) - \theta_1\|_1 \sim \alpha^{1 - \varrho}, \qquad D = 2

    Fixture: as for more layers, $\alpha = 10^{-200}$ and $10^{-180}$.

    As summarized; for a vertex solution the exponent is here the largest correlation of the dual
    certificate off the support, from a linear program.
    """
    _, _, largest = problem(settings.seed)
    found = distances(2, settings.seed)
    slopes = np.diff(np.log(found)) / np.diff(np.log(SCALES[2]))
    return Evidence((compared(r"slope", slopes[0], 1 - largest, 0.02),))


CLAIMS = (deep, two_layers)
