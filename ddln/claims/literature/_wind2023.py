"""Wind, Antun and Hansen 2023: the solution that vanishing starts choose among all of least l1 norm."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.limits import limit
from ddln.losses import LeastSquares
from ddln.parameterizations import PowerDifference

A = np.array([[1.0, 1.0, 1.0], [3.0, 0.0, 1.0]])
Y = np.array([3.0, 3.0])
# All (1 - t, 2 - 2 t, 3 t) with t in [0, 1] have the least norm, 3. Scale of theta at the start, by p.
SCALES = {2: 1e-60, 3: 1e-12, 4: 1e-12, 6: 1e-12}
# The distance falls like a power of the scale that is at least 1/3 here.
CLOSE = 1e-3


def chosen(depth: int) -> tuple[float, float]:
    """The t of the end of the flow of u^p - v^p from equal starts, and its distance from the face."""
    start = jnp.full(3, SCALES[depth] ** (1 / depth))
    theta = np.asarray(_end(start, depth))
    t = theta[2] / 3
    return float(t), float(np.abs(theta - [1 - t, 2 - 2 * t, 3 * t]).max())


def _end(start, depth: int):
    return limit(PowerDifference(start, start, depth), LeastSquares(A, Y)).theta


def predicted(depth: float | int) -> float:
    """The t of the largest sum of |theta|^(2/p), in closed form."""
    p = depth
    return 1 / (1 + (3 ** (2 / p) / (2 ** (2 / p) + 1)) ** (-p / (p - 2)))


@claim(id="wind2023-two-layers")
def two_layers(settings: Settings) -> Evidence:
    r"""As summarized: Ties for two layers.

    Among the solutions of least l1 norm the vanishing limit of $u^2 - v^2$ has the largest entropy.

        t = \frac{4 - 6 \cdot 2^{1/3} + 9 \cdot 2^{2/3}}{31} = \frac{4^{1/3}}{3 + 4^{1/3}} = 0.346035\ldots

    Fixture: $A = ((1, 1, 1), (3, 0, 1))$, $y = (3, 3)$; the solutions $(1 - t, 2 - 2t, 3t)$ have the same
    norm; $\theta$ starts from two equal parts of size $10^{-60}$.

    The end of the flow by the convex dual, without integration.
    """
    t, distance = chosen(2)
    printed = (4 - 6 * 2 ** (1 / 3) + 9 * 2 ** (2 / 3)) / 31
    return Evidence(
        (
            compared("$t$", t, "0.346035"),
            compared("$t$, first form", t, printed, 1e-9),
            compared("$t$, second form", t, 4 ** (1 / 3) / (3 + 4 ** (1 / 3)), 1e-9),
            measured("distance from the face", distance, "<=", 1e-9),
        )
    )


@claim(id="wind2023-deeper")
def deeper(settings: Settings) -> Evidence:
    r"""As summarized: Ties for more layers.

    For $u^p - v^p$ with $p > 2$ the vanishing limit has the largest $\sum_i |\theta_i|^{2/p}$ of the face
    instead.

        t = \Bigl(1 + \Bigl(\frac{3^{2/p}}{2^{2/p} + 1}\Bigr)^{-p/(p-2)}\Bigr)^{-1}

    Fixture: as for two layers; $p = 3, 4, 6$, the parts of $\theta$ start at $10^{-12}$.

    The ends against the formula, and the formula against a search over t.
    """
    with plots.style():
        figure, ax = plt.subplots()
        ps = np.linspace(2.05, 8, 100)
        ax.plot(ps, [predicted(p) for p in ps], label="formula, $p > 2$")
        ends = {p: chosen(p)[0] for p in SCALES}
        ax.plot(list(ends), list(ends.values()), "o", label="end of the flow")
        ax.set(xlabel="$p$", ylabel="$t$")
        ax.legend()
    grid = np.linspace(1e-6, 1 - 1e-6, 200001)
    numbers = []
    for p in (3, 4, 6):
        values = (1 - grid) ** (2 / p) * (1 + 2 ** (2 / p)) + (3 * grid) ** (2 / p)
        numbers.append(compared(f"$t$, $p = {p}$", ends[p], predicted(p), CLOSE))
        largest = grid[values.argmax()]
        numbers.append(compared(f"search over $t$, $p = {p}$", largest, predicted(p), 1e-5))
    return Evidence(
        tuple(numbers),
        figure=figure,
        caption="The chosen solution against $p$: the curve of the formula and the ends of flows.",
    )


CLAIMS = (two_layers, deeper)
