"""Lyu et al. 2025: the effective steps of heavy ball and of Nesterov's method."""

import equinox as eqx
import jax
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
# Steps of a descent, of whose second half the rate is measured.
COUNT = 8000


@eqx.filter_jit
def _late(loss: LeastSquares, steps, momenta, nesterov: bool):
    """theta at half and at the end of a descent, [step, momentum, 2]."""

    def one(step, momentum):
        optimizer = optax.sgd(step * (1 - momentum), momentum=momentum, nesterov=nesterov)
        half = np.array([COUNT // 2, COUNT], float)
        run = descend(Identity(jnp.ones(1)), loss, optimizer, COUNT, ts=half, throw=False)
        return run.theta[:, 0]

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(steps, momenta)


def effective_steps(nesterov: bool) -> np.ndarray:
    """alpha / eta of the modified loss L + (alpha/2) |grad L|^2 that the descent follows, by momentum.

    Measured on a parabola, where the late rate of the descent is lambda + alpha lambda^2, and extrapolated to
    eta = 0.
    """
    loss = LeastSquares(jnp.eye(1) * CURVATURE**0.5, jnp.zeros(1))
    theta = np.asarray(_late(loss, jnp.asarray(STEPS), jnp.asarray(MOMENTA), nesterov))
    between = (COUNT - COUNT // 2) * STEPS
    rate = np.log(theta[..., 0] / theta[..., 1]) / between[:, None]
    ratios = (rate - CURVATURE) / (STEPS[:, None] * CURVATURE**2)
    return 2 * ratios[1] - ratios[0]


def compared_steps(formula, nesterov: bool) -> tuple[Number, ...]:
    """The measured effective step beside the formula, for each momentum."""
    return tuple(
        compared(rf"$\alpha / \eta$, $\mu = {mu:g}$", found, formula(mu), 1e-3 * formula(mu))
        for mu, found in zip(MOMENTA, effective_steps(nesterov), strict=True)
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
