"""Zhao et al. 2026: saddle to saddle with rational numbers, and the weights of the norm of deep networks."""

from functools import cache

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.limits import VanishingLimit, l1_weights, limit, minimum_l1, vanishing_limit
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

X = np.array([[1, 0.5, 0.7, 0], [0.5, 1, 0.1, 0.7]])
Y = np.array([1.0, 0.0])
# The plateaus after the first one, which is zero.
PLATEAUS = np.array([[0.8, 0, 0, 0], [0, 0, 1.4, 0], [0, 0, 10 / 7, -10 / 49]])
# Of numbers that are rational: rounding of a few operations.
EXACT = 1e-12


@cache
def path() -> VanishingLimit:
    """The path of two layers: the dual grows to 1 at each sign."""
    network = DeepDiagonal.zero_last(jnp.ones(4), 2)
    return vanishing_limit(network, LeastSquares(X, Y))


def waits(row: int) -> np.ndarray:
    """Times from a plateau to the arrival of each coordinate, if its dual moved on as it does there."""
    found = path()
    theta, dual = np.asarray(found.theta[row]), np.asarray(found.dual[row])
    rate = X.T @ (Y - X @ theta)
    with np.errstate(divide="ignore", invalid="ignore"):
        times = (np.sign(rate) - dual) / rate
    return np.where(np.abs(rate) > EXACT, times, np.inf)


@claim(id="zhao2026-plateaus")
def plateaus(settings: Settings) -> Evidence:
    r"""Example: Three plateaus.

    From vanishing two layers the path rests at three points after zero. The first coordinate that becomes
    active drops out again at the next jump.

        (0.8, 0, 0, 0), \quad (0, 0, 1.4, 0), \quad (0, 0, \tfrac{10}{7}, -\tfrac{10}{49})

    Fixture: $X = ((1, 0.5, 0.7, 0), (0.5, 1, 0.1, 0.7))$, $y = (1, 0)$, the loss $\frac12 |X \theta -
    y|^2$, two layers whose dual grows up to 1.

    As summarized: the rows of the limit of vanishing initialization.
    """
    found = path()
    theta = np.asarray(found.theta[1 : 1 + len(PLATEAUS)])
    count = int(found.stats["num_plateaus"]) - 1
    with plots.style():
        figure, ax = plt.subplots()
        ends = np.append(np.asarray(found.ts[: count + 1]), 1.2 * float(found.ts[count]))
        for i, row in enumerate(np.asarray(found.theta[: count + 1]).T):
            ax.stairs(row, ends, baseline=None, label=rf"$\theta_{i + 1}$")
        ax.set(xlabel=r"time $\tau$", ylabel=r"$\theta$")
        ax.legend()
    return Evidence(
        (
            compared("number of plateaus after zero", count, 3, 0.0),
            compared("entry of a plateau that is farthest off", theta, PLATEAUS, EXACT),
        ),
        figure=figure,
        caption=(
            "The path of the example: four coordinates against the rescaled time. The first coordinate "
            "jumps to 0.8, then the third to 1.4 while the first returns to zero, then the fourth becomes "
            "negative."
        ),
    )


@claim(id="zhao2026-arrivals")
def arrivals(settings: Settings) -> Evidence:
    r"""Example: The next arrivals.

    On each plateau the dual of a coordinate moves at the rate of its gradient, and arrives at an end of its
    range after a time that the example lists.

        (1, 2, \tfrac{10}{7}, \infty), \qquad (\cdot, 5, 3, \tfrac{25}{7})

    Fixture: as for the plateaus.

    As summarized: at zero, and on the first plateau after it.
    """
    first, second = waits(0), waits(1)
    return Evidence(
        (
            compared("at zero, coordinates 1 to 3", first[:3], np.array([1, 2, 10 / 7]), EXACT),
            measured("at zero, one over the arrival of coordinate 4", 1 / first[3], "<=", EXACT),
            compared("first plateau, coordinates 2 to 4", second[1:], [5, 3, 25 / 7], EXACT),
        )
    )


@claim(id="zhao2026-last-arrival")
def last_arrival(settings: Settings) -> Evidence:
    r"""Example: The arrival of the coordinate that dropped out.

    On the second plateau after zero the arrivals of the coordinates 1, 2 and 4 are given with the number 20
    for the first one.

        (20, \tfrac{60}{13}, \cdot, \tfrac{80}{49})

    Correction: It is 40: the dual of the first coordinate goes from 1 to $-1$ at the rate $-0.05$. The next
    jump, and so the path, is not changed.

    Fixture: as for the plateaus.

    As summarized: the time to the other end of the range.
    """
    found = waits(2)
    others = compared(
        "coordinates 2 and 4", found[[1, 3]], [60 / 13, 80 / 49], EXACT, case="corrected"
    )
    return Evidence(
        (
            compared("coordinate 1", found[0], 20, EXACT, case="as printed"),
            compared("coordinate 1", found[0], 40, EXACT, case="corrected"),
            others,
        )
    )


@claim(id="zhao2026-weights")
def weights(settings: Settings) -> Evidence:
    r"""Corollary: The weights of the norm.

    From vanishing deep networks the flow ends at the smallest weighted l1 norm, with the integrals of the
    smallest layer from its start as weights.

        W_\pm = \int_{\pm v_0}^\infty \frac{dr}{\prod_{j \ne 1} \sqrt{r^2 + \Delta_j}}

    Correction: The lower ends are $\pm s v_0$ with $s$ the sign of the product of the other layers: where
    it is negative the two weights change places.

    Fixture: three layers $10^{-4} u_0$ with $u_0$ standard normal, $n = 4$, $d = 10$, standard normal data.

    As summarized: the ends of flows against linear programs with both choices of weights.
    """
    keys = problems.keys(settings, "zhao weights")[:8]
    X, y, layers, theta, proper = (np.asarray(a) for a in problems.each(_end, keys))
    smallest = np.abs(layers).argmin(1)
    product = layers.prod(1)
    own = np.take_along_axis(layers, smallest[:, None], 1)[:, 0]
    flipped = (np.sign(product) * np.sign(own) < 0)[:, None]
    printed = np.where(flipped, proper[:, ::-1], proper)
    excess = {}
    for case, W in (("as printed", printed), ("corrected", proper)):
        least = np.stack([minimum_l1(*problem) for problem in zip(X, y, W, strict=True)])
        excess[case] = _norm(theta, W) / _norm(least, W) - 1
    return Evidence(
        tuple(
            measured(
                "excess of the norm of the end over the least one", value, "<=", 1e-5, case=case
            )
            for case, value in excess.items()
        )
    )


def _norm(theta, W):
    """The weighted norm of each row."""
    return np.sum(W[:, 0] * np.maximum(theta, 0) + W[:, 1] * np.maximum(-theta, 0), axis=1)


def _end(key):
    key_X, key_y, key_u = jax.random.split(key, 3)
    X, y = jax.random.normal(key_X, (4, 10)), jax.random.normal(key_y, (4,))
    network = DeepDiagonal.random(key_u, 3, 10)
    small = DeepDiagonal(1e-4 * network.layers)
    end = limit(small, LeastSquares(X, y), throw=False)
    return X, y, network.layers, end.theta, l1_weights(network)


CLAIMS = (plateaus, arrivals, last_arrival, weights)
