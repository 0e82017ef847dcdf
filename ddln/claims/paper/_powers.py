"""Appendix A.3: the deep redundant network, theta = u^L."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import PRNGKeyArray
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.claims.paper._layers import FLOW_ERROR
from ddln.claims.paper._two_layers import off_range
from ddln.flows import Trajectory
from ddln.losses import LeastSquares
from ddln.parameterizations import Power

DEPTH = 3
SPEED = DEPTH * (DEPTH - 2)


@cache
def _power_flows(settings: Settings) -> tuple[Trajectory, LeastSquares]:
    """Flows of u^3 from positive starts, saved in [0, 10] and at a late time.

    The inputs have both signs; the targets are those of a positive parameter, so that the flow can
    meet them.
    """
    flow, loss = problems.each(_power_flow, problems.keys(settings, "powers"))
    return problems.finished(flow), loss


def _power_flow(key: PRNGKeyArray) -> tuple[Trajectory, LeastSquares]:
    key_x, key_theta, key_start = jax.random.split(key, 3)
    X = jax.random.normal(key_x, (problems.SAMPLES, problems.DIM)) / problems.SAMPLES**0.5
    theta = jax.random.uniform(key_theta, (problems.DIM,), minval=0.2, maxval=2.0)
    start = jax.random.uniform(key_start, (problems.DIM,), minval=0.6, maxval=1.4)
    loss = LeastSquares(X, X @ theta)
    return problems.reduced_flow(Power(start, DEPTH), loss, jnp.asarray(problems.times())), loss


@claim(id="paper-equation-27", equations=(26, 27, 28))
def closed_form(settings: Settings) -> Evidence:
    r"""Eqs. (26) to (28): Powers as a function of the accumulated gradient.

    For $\theta = u^{\odot L}$, $L > 2$, and positive starts the weights are a power of an affine function
    of $\xi$ as long as they are not zero.

        \dot u + L u^{\odot (L-1)} \odot \nabla\mathcal{L}(\theta) = 0, \qquad u(t) = \bigl(u(0)^{\odot
        -(L-2)} - L(L-2) \xi(t)\bigr)^{\odot -\frac{1}{L-2}}, \qquad \theta = u^{\odot L}

    Labarrière et al. 2024, equations 26 to 28, along flows of powers.
    """
    flow, loss = _power_flows(settings)
    u, theta, xi = _rows(flow)
    automatic = np.asarray(problems.each(_gradient, flow.initial, loss))
    slope = np.asarray(
        problems.each(lambda f, one: one.gradient(f.effective()), flow.initial, loss)
    )
    printed = DEPTH * u[:, 0] ** (DEPTH - 1) * slope
    inner = u[:, :1] ** -(DEPTH - 2.0) - SPEED * xi
    rebuilt = inner ** (-1 / (DEPTH - 2))
    return Evidence(
        (
            measured(
                "largest difference of Eq. (26) to automatic differentiation, relative",
                np.abs(printed - automatic) / np.abs(automatic).max(),
                "<=",
                1e-12,
            ),
            measured(
                "largest error of $u(t)$, relative",
                np.abs(rebuilt - u) / np.abs(u).max(),
                "<=",
                FLOW_ERROR,
            ),
            measured(
                r"largest error of $\theta(t)$, relative",
                np.abs(rebuilt**DEPTH - theta) / np.abs(theta).max(),
                "<=",
                FLOW_ERROR,
            ),
            measured("smallest weight along the flows", u, ">", 0),
        ),
        remark=(
            "The paper enforces that no weight vanishes by positive $X$, $y$ and starts. Here $X$ "
            "has both signs: "
            r"positive starts suffice, as $\dot u$ is $u$ times a bounded factor."
        ),
    )


def _gradient(power: Power, loss: LeastSquares):
    return jax.grad(lambda u: loss(Power(u, DEPTH).effective()))(power.weights)


def _rows(flow: Trajectory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """u, theta and xi over time."""
    assert flow.dual is not None
    weights = flow.parameterization.weights  # pyright: ignore[reportAttributeAccessIssue]
    return np.asarray(weights), np.asarray(flow.theta), np.asarray(flow.dual)


def _entropy_slope(theta: np.ndarray, start: np.ndarray, exponent: float, divisor: float):
    """The gradient of <u(0)^exponent, theta> - (L/2) <1, theta^(2/L)> over a divisor."""
    return (start**exponent - theta ** (2 / DEPTH - 1)) / divisor


FORMS = (("as printed", DEPTH - 2.0, 1.0), ("corrected", 2.0 - DEPTH, float(SPEED)))


@claim(id="paper-equation-29", equations=(29, 30))
def entropy(settings: Settings) -> Evidence:
    r"""Eqs. (29), (30): The entropy of powers.

    The function $Q$ of Eq. (29) has the gradient $\Psi^{-1}(\theta) = u(0)^{\odot -(L-2)} - \theta^{\odot
    -(1 - 2/L)}$, and the flow is its mirror flow.

        Q(\theta) = \langle u(0)^{\odot (L-2)}, \theta \rangle - \frac{L}{2} \langle \mathbf{1},
        \theta^{\odot \frac{2}{L}} \rangle, \qquad \frac{d}{dt} \nabla Q(\theta(t)) +
        \nabla\mathcal{L}(\theta(t)) = 0

    Correction: The exponent of $u(0)$ is $-(L-2)$, and $Q$ is to be divided by $L(L-2)$: $Q(\theta) =
    \frac{1}{L(L-2)} \bigl(\langle u(0)^{\odot -(L-2)}, \theta \rangle - \frac{L}{2} \langle \mathbf{1},
    \theta^{\odot 2/L} \rangle\bigr)$.

    Labarrière et al. 2024, equations 29 and 30: the gradient of Q along flows of powers.
    """
    flow, _ = _power_flows(settings)
    u, theta, xi = _rows(flow)
    inverse = u[:, :1] ** -(DEPTH - 2.0) - theta ** -(1 - 2 / DEPTH)
    numbers = []
    for case, exponent, divisor in FORMS:
        slope = _entropy_slope(theta, u[:, :1], exponent, divisor)
        numbers.append(
            measured(
                (r"$L(L-2) \nabla Q$" if divisor > 1 else r"$\nabla Q$")
                + r" against $\Psi^{-1}(\theta(t))$, largest error",
                np.abs(divisor * slope - inverse) / np.abs(inverse).max(),
                "<=",
                1e-12,
                case=case,
            )
        )
        numbers.append(
            measured(
                r"$\nabla Q(\theta(t)) - \nabla Q(\theta(0))$ against $\xi(t)$, largest error",
                np.abs(slope - slope[:, :1] - xi) / np.abs(xi).max(),
                "<=",
                FLOW_ERROR,
                case=case,
            )
        )
    return Evidence(tuple(numbers))


@claim(id="paper-equation-31", equations=(31,))
def end_of_flow(settings: Settings) -> Evidence:
    r"""Eq. (31): Where the flow of powers ends.

    If the flow converges to a solution of $X \theta = y$, it is the one with the smallest $Q$ of Eq. (29).

        \theta_\infty = \operatorname{arg\,min}_{X \theta = y} Q(\theta)

    Correction: True of the corrected $Q$, with the exponent $-(L-2)$ of $u(0)$; the factor
    $\frac{1}{L(L-2)}$ does not matter here.

    Labarrière et al. 2024, equation 31: optimality conditions at a late time.
    """
    flow, loss = _power_flows(settings)
    u, theta, _ = _rows(flow)
    late = theta[:, -1]
    residual = np.einsum("bnd,bd->bn", np.asarray(loss.X), late) - np.asarray(loss.y)
    numbers = [
        measured(
            r"largest distance of $\nabla Q(\theta_\infty)$ from the range of $X^\top$, relative",
            off_range(loss, _entropy_slope(late, u[:, 0], exponent, divisor)),
            "<=",
            1e-5,
            case=case,
        )
        for case, exponent, divisor in FORMS
    ]
    label = f"largest $|X \\theta - y|$ at $t = {problems.LATE:g}$"
    return Evidence((*numbers, measured(label, np.abs(residual), "<=", 1e-5, case="corrected")))
