"""Lyu et al. 2025: the effective steps of heavy ball and of Nesterov's method."""

import jax.numpy as jnp
import numpy as np
import optax

from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, Number, compared
from ddln.flows import descend
from ddln.losses import LeastSquares
from ddln.parameterizations import Identity

CURVATURE = 1.0
STEPS = np.array([0.001, 0.0005])
MOMENTA = (0.0, 0.5, 0.9)


def effective_step(momentum: float, nesterov: bool) -> float:
    """alpha / eta of the modified loss L + (alpha/2) |grad L|^2 that the descent follows.

    Measured on a parabola, where the late rate of the descent is lambda + alpha lambda^2, and extrapolated to
    eta = 0.
    """
    ratios = []
    for step in STEPS:
        optimizer = optax.sgd(step * (1 - momentum), momentum=momentum, nesterov=nesterov)
        count = round(4 / step)
        late = np.array([count // 2, count], float)
        loss = LeastSquares(jnp.eye(1) * CURVATURE**0.5, jnp.zeros(1))
        theta = descend(Identity(jnp.ones(1)), loss, optimizer, count, ts=late).theta[:, 0]
        between = (count - count // 2) * step
        rate = float(jnp.log(theta[0] / theta[1])) / between
        ratios.append((rate - CURVATURE) / (step * CURVATURE**2))
    return 2 * ratios[1] - ratios[0]


def compared_steps(formula, nesterov: bool) -> tuple[Number, ...]:
    """The measured effective step beside the formula, for each momentum."""
    return tuple(
        compared(
            rf"$\alpha / \eta$, $\mu = {mu:g}$",
            effective_step(mu, nesterov),
            formula(mu),
            1e-3 * formula(mu),
        )
        for mu in MOMENTA
    )


@claim(id="lyu2025-heavy-ball")
def heavy_ball(settings: Settings) -> Evidence:
    r"""As summarized: The effective step of heavy ball.

    Heavy ball with momentum $\mu$ follows, to second order, the gradient flow of a loss with a penalty of
    its gradient, whose size is an effective step.

        \alpha_{\mathrm{HB}} = \frac{\eta (1 + \mu)}{2 (1 - \mu)}

    Fixture: $\eta$ is the step times $1/(1 - \mu)$; a parabola of curvature 1; $\mu = 0, 0.5, 0.9$.

    The late rate of the descent, extrapolated from two steps.
    """
    return Evidence(compared_steps(lambda mu: (1 + mu) / (2 * (1 - mu)), nesterov=False))


@claim(id="lyu2025-nesterov")
def nesterov(settings: Settings) -> Evidence:
    r"""As summarized: The effective step of Nesterov's method.

    Nesterov's method has a smaller effective step at the same momentum.

        \alpha_{\mathrm{NAG}} = \frac{\eta (1 - \mu + 2 \mu^2)}{2 (1 - \mu)}

    Fixture: as for heavy ball.

    The late rate of the descent, extrapolated from two steps.
    """
    return Evidence(compared_steps(lambda mu: (1 - mu + 2 * mu**2) / (2 * (1 - mu)), nesterov=True))


CLAIMS = (heavy_ball, nesterov)
