"""Su, Boyd and Candès 2016: the differential equation of Nesterov's method."""

import diffrax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import jv

from ddln import plots
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.flows import VanishingDamping, momentum_flow
from ddln.losses import LeastSquares
from ddln.parameterizations import Identity

CURVATURES = np.array([0.02, 0.25, 1.0])
TIMES = np.linspace(0, 40, 401)


def flow():
    """x'' + 3 x' / t + grad f = 0 from x = 1 on a diagonal parabola."""
    loss = LeastSquares(jnp.diag(jnp.asarray(CURVATURES) ** 0.5), jnp.zeros(3))
    return momentum_flow(
        Identity(jnp.ones(3)),
        loss,
        TIMES[-1],
        inertia=1.0,
        damping=VanishingDamping(3.0),
        ts=TIMES,
        rtol=1e-10,
        atol=1e-12,
        adjoint=diffrax.ForwardMode(),
    )


@claim(id="su2016-bessel")
def bessel(settings: Settings) -> Evidence:
    r"""Quadratic functions: Bessel functions.

    On $f = \lambda x^2 / 2$ the equation with the friction $3/t$ is solved by a Bessel function.

        \ddot x + \frac3t \dot x + \lambda x = 0 \;\Rightarrow\; x(t) = \frac{2 x_0}{t \sqrt\lambda} J_1(t
        \sqrt\lambda)

    Fixture: $\lambda = 0.02, 0.25, 1$ from $x = 1$ up to $t = 40$.

    As summarized: the momentum flow against SciPy's Bessel function.
    """
    theta = np.asarray(flow().theta)[1:]
    z = TIMES[1:, None] * np.sqrt(CURVATURES)
    formula = 2 * jv(1, z) / z
    with plots.style():
        figure, ax = plt.subplots()
        for row, value, curvature in zip(theta.T, formula.T, CURVATURES, strict=True):
            (line,) = ax.plot(TIMES[1:], value, label=rf"$\lambda = {curvature:g}$")
            ax.plot(TIMES[1::20], row[::20], "o", ms=3, color=line.get_color())
        ax.set(xlabel="$t$", ylabel="$x$")
        ax.legend()
    return Evidence(
        (compared("$x(t)$", theta, formula, 1e-7),),
        figure=figure,
        caption="Oscillations that decay: Bessel functions (lines) and the momentum flow (dots).",
    )


@claim(id="su2016-rate")
def rate(settings: Settings) -> Evidence:
    r"""Convergence: Twice the squared distance over the squared time.

    For convex functions the excess falls at least like $1/t^2$, with a constant from the start.

        f(x(t)) - f^* \leq \frac{2 |x_0 - x^*|^2}{t^2}

    Fixture: as for the Bessel functions.

    As summarized: the largest share of the bound along the flow.
    """
    value = np.asarray(flow().loss)[1:]
    return Evidence(
        (measured("left side / right side", value * TIMES[1:] ** 2 / (2 * 3), "<=", 1.0),)
    )


CLAIMS = (bessel, rate)
