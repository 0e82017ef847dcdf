"""Dominé et al. 2025: exact dynamics of two layers from lambda-balanced starts."""

import diffrax
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots, theory
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared
from ddln.claims.literature._saxe2014 import FLOW, RTOL, whitened
from ddln.flows import gradient_flow
from ddln.parameterizations import MatrixFactorization

RATES = (0.0, 0.5, 3.0)


def balanced(rng: np.random.Generator, rate: float, scale: float = 0.3):
    """Random U, V with U^T U - V^T V = rate I."""
    V = scale * rng.normal(size=(4, 3))
    values, vectors = np.linalg.eigh(V.T @ V)
    basis = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return basis @ (np.sqrt(values + rate)[:, None] * vectors.T), V


@claim(id="domine2025-exact-path")
def exact_path(settings: Settings) -> Evidence:
    r"""Exact dynamics: A matrix Riccati equation solves the flow.

    From $U^\top U - V^\top V = \lambda I$ the product $Q Q^\top$ of the stacked layers, and so the network,
    is known at all times.

        Q Q^\top(t) = e^{Ft} Q_0 \bigl(I + Q_0^\top \textstyle\int_0^t e^{2Fs} ds\, Q_0\bigr)^{-1} Q_0^\top
        e^{Ft}, \qquad F = \begin{pmatrix} -\frac\lambda2 I & Y^\top \\ Y & \frac\lambda2 I \end{pmatrix}

    Fixture: $\lambda = 0, 0.5, 3$; random layers of width 3 for $Y$ of shape 3 by 4, standard normal;
    whitened inputs.

    As summarized, in this package's derivation: the formula against the flow of both matrices.
    """
    rng = np.random.default_rng(settings.seed)
    Y = rng.normal(size=(3, 4))
    ts = np.linspace(0, 8, 41)
    numbers = []
    with plots.style():
        figure, ax = plt.subplots()
        for rate in RATES:
            start = MatrixFactorization(*balanced(rng, rate))
            flow = problems.each(_flow, *(one[None] for one in (start.left, start.right, Y, ts)))[0]
            path = np.asarray(theory.linear_network_path(start, Y, ts))
            numbers.append(compared(rf"entry, $\lambda = {rate:g}$", np.asarray(flow), path, FLOW))
            ax.semilogy(ts, np.linalg.norm(path - Y, axis=(1, 2)), label=rf"$\lambda = {rate:g}$")
        ax.set(xlabel="$t$", ylabel="$|U V^T - Y|$")
        ax.legend()
    return Evidence(
        tuple(numbers),
        figure=figure,
        caption=(
            "Distance from the target against time for three balances: slow sigmoids without imbalance, one "
            "exponential with much."
        ),
    )


def _flow(U, V, Y, ts):
    return gradient_flow(
        MatrixFactorization(U, V),
        whitened(Y),
        ts[-1],
        ts=ts,
        rtol=RTOL,
        atol=1e-12,
        adjoint=diffrax.ForwardMode(),
    ).theta


@claim(id="domine2025-lazy")
def lazy(settings: Settings) -> Evidence:
    r"""Rich and lazy: Large imbalance is lazy.

    The larger $\lambda$, the nearer is the path to that of a linear model, an exponential.

        U V^\top(t) - Y = e^{-\lambda t} (U_0 V_0^\top - Y) + O(\lambda^{-2}), \qquad \lambda \to \infty

    Fixture: $\lambda = 10, 20, 40, 80$ for $Y$ of shape 3 by 4, standard normal, width 3; $V_0$ normal with
    deviation $\lambda^{-1/2}$, so that $U_0 V_0^\top$ keeps its size.

    As summarized, the order derived here: the largest distance of the path from the exponential.
    """
    rng = np.random.default_rng(settings.seed)
    Y = rng.normal(size=(3, 4))
    distances = []
    for rate in (10.0, 20.0, 40.0, 80.0):
        U, V = balanced(np.random.default_rng(1), rate, rate**-0.5)
        ts = np.linspace(0, 8, 41) / rate
        path = np.asarray(theory.linear_network_path(MatrixFactorization(U, V), Y, ts))
        linear = Y + np.exp(-rate * ts)[:, None, None] * (U @ V.T - Y)
        distances.append(np.abs(path - linear).max())
    ratios = np.array(distances[:-1]) / distances[1:]
    return Evidence(
        (compared(r"last ratio of distances as $\lambda$ doubles", ratios[-1], 4.0, 0.2),)
    )


CLAIMS = (exact_path, lazy)
