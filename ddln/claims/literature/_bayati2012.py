"""Bayati and Montanari 2012: the Lasso of Gaussian matrices, here the limit of vanishing two layers."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from ddln import plots
from ddln.asymptotics import Signal, state_evolution
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.parameterizations import DeepDiagonal, Identity

SPARSITY = 0.1


def threshold(rho: float) -> float:
    """The smallest n/d at which the least l1 norm finds a signal with the share rho of entries not zero."""

    def ratio(tau: float) -> float:
        inactive = 2 * ((1 + tau**2) * norm.cdf(-tau) - tau * norm.pdf(tau))
        return float(rho * (1 + tau**2) + (1 - rho) * inactive)

    return float(minimize_scalar(ratio, bounds=(0.01, 10), method="bounded").fun)  # pyright: ignore


@claim(id="bayati2012-threshold")
def phase_transition(settings: Settings) -> Evidence:
    r"""As summarized: The threshold of recovery by the least l1 norm.

    As the start of two layers vanishes the error on Gaussian data vanishes above a ratio of samples to
    coordinates that soft thresholding sets.

        \alpha_c = \min_\tau \bigl\{\rho (1 + \tau^2) + 2 (1 - \rho) \bigl((1 + \tau^2) \Phi(-\tau) - \tau
        \varphi(\tau)\bigr)\bigr\}

    Fixture: one coordinate in ten not zero, normal, $E \theta^{*2} = 1$; two layers $(10^{-20}, 0)$.

    State evolution at ratios 10 percent below and above the threshold.
    """
    start = DeepDiagonal.zero_last(jnp.ones(1), 2, 1e-20)
    edge = threshold(SPARSITY)
    ratios = np.array([0.5, 0.8, 0.9, 1.1, 1.2]) * edge
    mse = np.array([float(state_evolution(start, Signal.sparse(SPARSITY), r).mse) for r in ratios])
    with plots.style():
        figure, ax = plt.subplots()
        ax.semilogy(ratios, mse, "o-")
        ax.axvline(edge, color="0.5", lw=0.8)
        ax.set(xlabel="$n/d$", ylabel="mean squared error")
    return Evidence(
        (
            measured("error 10 percent below", mse[2], ">=", 1e-2),
            measured("error 10 percent above", mse[3], "<=", 1e-6),
        ),
        figure=figure,
        caption="Error of the limit of vanishing two layers against n/d; the line is the threshold.",
    )


@claim(id="bayati2012-ridgeless")
def ridgeless(settings: Settings) -> Evidence:
    r"""As summarized: The anchor of linear models.

    For one layer the fixed point is solved in closed form: least squares of least l2 norm on Gaussian data.

        E (\theta - \theta^*)^2 = (1 - \alpha)\, E \theta^{*2} + \frac{\alpha^2 \sigma^2}{1 - \alpha},
        \qquad \alpha = \frac nd < 1

    Fixture: $\alpha = 0.2, 0.5, 0.8$, noise $\sigma = 0.3$ per sample, the sparse signal of the threshold.

    State evolution of the identity map.
    """
    numbers = []
    for ratio in (0.2, 0.5, 0.8):
        found = state_evolution(Identity(jnp.zeros(1)), Signal.sparse(SPARSITY), ratio, 0.3).mse
        printed = 1 - ratio + ratio**2 * 0.09 / (1 - ratio)
        numbers.append(compared(rf"error, $\alpha = {ratio:g}$", float(found), printed, 1e-6))
    return Evidence(tuple(numbers))


CLAIMS = (phase_transition, ridgeless)
