"""Woodworth et al. 2020: from the kernel to the rich regime by the scale of the start."""

from functools import cache

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.limits import limit, minimum_l1, minimum_l2, regime_exponent
from ddln.losses import LeastSquares
from ddln.parameterizations import PowerDifference

SAMPLES, DIM, PROBLEMS = 4, 8, 8
# Scales of the weights; theta starts as alpha^2 - alpha^2.
ALPHAS = np.geomspace(1e-20, 1e3, 24)


def _data(key):
    key_X, key_y = jax.random.split(key)
    return jax.random.normal(key_X, (SAMPLES, DIM)), jax.random.normal(key_y, (SAMPLES,))


def _ends(X, y):
    def end(alpha):
        start = jnp.full(DIM, alpha)
        return limit(PowerDifference(start, start, 2), LeastSquares(X, y), throw=False).theta

    return jax.vmap(end)(jnp.asarray(ALPHAS))


@cache
def ends(settings: Settings) -> tuple[np.ndarray, ...]:
    """X, y and the ends of the flow for all scales, with a leading axis of problems."""
    keys = problems.keys(settings, "woodworth")[:PROBLEMS]
    X, y = problems.each(_data, keys)
    return tuple(np.asarray(a) for a in (X, y, problems.each(_ends, X, y)))


@claim(id="woodworth2020-potential")
def q_function(settings: Settings) -> Evidence:
    r"""Theorem 1: The function between the norms.

    The flow of $u^2 - v^2$ from $u = v = \alpha$ ends at the solution of least $Q_\alpha$, so its inverse
    hyperbolic sine is a combination of the inputs.

        Q_\alpha(\theta) = \alpha^2 \sum_i q\Bigl(\frac{\theta_i}{\alpha^2}\Bigr), \qquad q'(z) \propto
        \operatorname{arcsinh}\frac z2

    Fixture: $n = 4$, $d = 8$, standard normal X and y, scales from $10^{-20}$ to $10^3$.

    As summarized: the distance of the gradient of Q at the ends from the range of the transposed inputs.
    """
    X, y, theta = ends(settings)
    slope = np.arcsinh(theta / (2 * ALPHAS[:, None] ** 2))
    off, residual = [], []
    for one, target, row, end in zip(X, y, slope, theta, strict=True):
        rest = row - np.linalg.lstsq(one.T, row.T, rcond=None)[0].T @ one
        off.append(np.linalg.norm(rest, axis=1) / np.linalg.norm(row, axis=1))
        residual.append(np.abs(end @ one.T - target).max(1))
    return Evidence(
        (
            measured("relative distance of $Q'$ from the range of $X^T$", off, "<=", 1e-7),
            measured(r"largest residual of $X \theta = y$", residual, "<=", 1e-7),
        )
    )


@claim(id="woodworth2020-rich")
def rich(settings: Settings) -> Evidence:
    r"""Rich regime: Small scales find the least l1 norm.

    As the scale of the start vanishes the end tends to a solution of least l1 norm.

        \lim_{\alpha \to 0} \theta_\infty(\alpha) \in \operatorname{arg\,min}_{X \theta = y} \|\theta\|_1

    Fixture: as for the function Q.

    As summarized: the excess of the norm over a linear program's, whose rate depends on the data.
    """
    X, y, theta = ends(settings)
    least = np.array([np.abs(minimum_l1(*one)).sum() for one in zip(X, y, strict=True)])
    excess = np.abs(theta).sum(2) / least[:, None] - 1
    flat = np.stack([minimum_l2(*one) for one in zip(X, y, strict=True)])
    far = np.linalg.norm(theta - flat[:, None], axis=2) / np.linalg.norm(flat, axis=1)[:, None]
    with plots.style():
        figure, ax = plt.subplots()
        ax.loglog(ALPHAS, np.median(np.maximum(excess, 1e-16), axis=0), label=r"excess of $\ell_1$")
        ax.loglog(
            ALPHAS, np.median(np.maximum(far, 1e-16), axis=0), label=r"distance from least $\ell_2$"
        )
        ax.set(xlabel=r"scale $\alpha$")
        ax.legend()
    return Evidence(
        (
            measured(r"median excess at $\alpha = 10^{-20}$", np.median(excess[:, 0]), "<=", 1e-4),
            measured("largest excess there", excess[:, 0], "<=", 0.05),
            measured(
                "smallest increase from there to the scale 1", excess[:, 20] - excess[:, 0], ">", 0
            ),
        ),
        figure=figure,
        caption=(
            "Excess of the l1 norm and distance from the solution of least l2 norm against the scale: the "
            "first vanishes for small scales, the second for large ones. Medians of eight problems."
        ),
    )


@claim(id="woodworth2020-kernel")
def kernel(settings: Settings) -> Evidence:
    r"""Kernel regime: Large scales find the least l2 norm.

    As the scale of the start grows the end tends to the solution of least l2 norm, at the rate
    $\alpha^{-4}$.

        \lim_{\alpha \to \infty} \theta_\infty(\alpha) = X^+ y

    Fixture: as for the function Q.

    As summarized, the rate derived here from the next term of the potential.
    """
    X, y, theta = ends(settings)
    flat = np.stack([minimum_l2(*one) for one in zip(X, y, strict=True)])
    far = np.linalg.norm(theta - flat[:, None], axis=2) / np.linalg.norm(flat, axis=1)[:, None]
    # From the scale 10 to 100: in the asymptotic regime, and above the accuracy of the solver.
    slopes = np.log(far[:, -2] / far[:, -3]) / np.log(ALPHAS[-2] / ALPHAS[-3])
    return Evidence(
        (
            measured("largest distance at $\\alpha = 10^3$", far[:, -1], "<=", 1e-7),
            compared("slope of the distance", np.median(slopes), -4.0, 0.05),
        )
    )


@claim(id="woodworth2020-exponent")
def exponent(settings: Settings) -> Evidence:
    r"""Function $q$: Its degree falls from 2 to 1.

    The function grows quadratically near zero and almost linearly, with a logarithm, far from it.

        q(z) \to \frac{z^2}{4}\ (z \to 0), \qquad q(z) \sim |z| \log |z|\ (z \to \infty)

    Fixture: one coordinate, $u = v = \alpha$, at $\theta = 1$.

    As summarized: $\theta Q'/Q$ of the potential, and $1 + 1/\log$ of it at tiny scales.
    """

    def degree(alpha: float) -> float:
        start = PowerDifference(jnp.full(1, alpha), jnp.full(1, alpha), 2)
        return float(regime_exponent(start, jnp.ones(1)))

    tiny = 1e-100
    ratio = np.log(1 / tiny**2)  # arcsinh(z/2) for z = 1/alpha^2
    return Evidence(
        (
            compared(r"degree at $\alpha = 10^3$", degree(1e3), 2.0, 1e-6),
            compared(r"degree at $\alpha = 10^{-100}$", degree(tiny), ratio / (ratio - 1), 1e-6),
        )
    )


CLAIMS = (q_function, rich, kernel, exponent)
