"""Slides "Square reparameterization", "Polynomial reparameterization" and the map of two layers."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import PRNGKeyArray
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, Number, measured
from ddln.claims.slides._flows import (
    FLOW_ERROR,
    TS,
    accurate_flow,
    data,
    end_of_flow,
    off_range,
    relative,
)
from ddln.flows import Trajectory
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal, Power, Square

SQUARE = "Square reparameterization"
POWER = "Polynomial reparameterization"
DEPTH = 3


def _positive(key: PRNGKeyArray) -> jax.Array:
    return jax.random.uniform(key, (problems.DIM,), minval=0.6, maxval=1.4)


def _solvable(loss: LeastSquares, key: PRNGKeyArray) -> LeastSquares:
    """The same inputs, with targets of a positive w."""
    w = jax.random.uniform(key, (problems.DIM,), minval=0.2, maxval=2.0)
    return LeastSquares(loss.X, loss.X @ w)


@cache
def square_flows(settings: Settings) -> tuple[Trajectory, Trajectory]:
    """Flows of theta * theta / 2, for targets that it can meet and for any."""
    losses, keys = problems.losses(settings), problems.keys(settings, "squares")
    met = problems.each(_solvable, losses, keys)
    return _square_flows(keys, met), _square_flows(keys, losses)


def _square_flows(keys, losses) -> Trajectory:
    return problems.finished(problems.each(_square_flow, keys, losses))


def _square_flow(key: PRNGKeyArray, loss: LeastSquares) -> Trajectory:
    return accurate_flow(Square(_positive(key)), loss)


@cache
def pair_flows(settings: Settings) -> Trajectory:
    """Flows of u * v / 2 from random layers, for any targets."""
    networks, losses = problems.networks(settings, 2), problems.losses(settings)
    return problems.finished(problems.each(_pair_flow, networks, losses))


def _pair_flow(network: DeepDiagonal, loss: LeastSquares) -> Trajectory:
    return problems.flow_of_layers(DeepDiagonal(network.layers, 0.5), loss, jnp.asarray(TS))


def _mirror(
    slope: np.ndarray, flow: Trajectory, what: str, case: str = "as stated", limit: float = 1e-6
) -> Number:
    """That grad R(w(t)) - grad R(w(0)) is the accumulated negative gradient."""
    xi = np.asarray(flow.dual)
    error = np.abs(slope - slope[:, :1] - xi).max((1, 2)) / np.abs(xi).max((1, 2))
    return measured(
        rf"{what}: largest $|\nabla R(w(t)) - \nabla R(w(0)) + \int_0^t \nabla\mathcal{{L}}|$, relative",
        error,
        "<=",
        limit,
        case=case,
    )


@claim(id="slides-square-flow")
def square_flow(settings: Settings) -> Evidence:
    r"""Square reparameterization: The flow of the square map.

    For $h(\theta) = \frac{1}{2} \theta \odot \theta$ the flow of $w$ depends on $w$ alone.

        \frac{d}{dt} w(t) + \theta(t) \odot \theta(t) \odot \nabla\mathcal{L}(w(t)) = \frac{d}{dt} w(t) +
        \operatorname{diag}(2 w(t)) \nabla\mathcal{L}(w(t)) = 0

    Slide "Square reparameterization": velocity by automatic differentiation, and the flow of log w.
    """
    flow = square_flows(settings)[0]
    keys = problems.keys(settings, "squares")
    losses = problems.each(_solvable, problems.losses(settings), keys)
    velocity, printed = problems.each(_square_velocity, keys, losses)
    w, xi = np.asarray(flow.theta), np.asarray(flow.dual)
    # d log(w) / dt = -2 grad L.
    logs = np.log(w / w[:, :1])
    return Evidence(
        (
            measured(
                "largest error of the velocity, relative",
                relative(np.asarray(velocity - printed), np.asarray(printed)),
                "<=",
                1e-12,
            ),
            measured(
                r"largest $|\log w(t) - \log w(0) + 2 \int_0^t \nabla\mathcal{L}|$ along the flow, relative",
                np.abs(logs - 2 * xi).max((1, 2)) / np.abs(logs).max((1, 2)),
                "<=",
                FLOW_ERROR,
            ),
        )
    )


def _square_velocity(key: PRNGKeyArray, loss: LeastSquares):
    theta = _positive(key)
    velocity = -jax.grad(lambda theta: loss(theta * theta / 2))(theta)
    w = theta * theta / 2
    _, change = jax.jvp(lambda theta: theta * theta / 2, (theta,), (velocity,))
    return change, -2 * w * loss.gradient(w)


@claim(id="slides-square-entropy")
def square_entropy(settings: Settings) -> Evidence:
    r"""Square reparameterization: The entropy of the square map.

    The flow of the square map is the mirror flow of an entropy.

        R(w) = \frac{1}{2} \sum_{i=1}^d w_i \log(w_i) - w_i

    Slide "Square reparameterization": grad R = log(w) / 2 along the flow, and where it ends.
    """
    flow = square_flows(settings)[0]
    keys = problems.keys(settings, "squares")
    losses = problems.each(_solvable, problems.losses(settings), keys)
    X, y = data(losses)
    w = np.asarray(flow.theta)
    slope = np.log(w) / 2
    end = np.asarray(problems.each(_square_limit, keys, losses))
    return Evidence(
        (
            _mirror(slope, flow, r"$\nabla R = \frac{1}{2} \log w$"),
            measured(
                "largest $|Xw - y|$ at a late time, relative",
                relative(np.einsum("pni,pi->pn", X, w[:, -1]) - y, y),
                "<=",
                FLOW_ERROR,
            ),
            measured(
                r"part of $\nabla R(w_\infty) - \nabla R(w_0)$ outside of the range of $X^\top$, relative",
                off_range(X, slope[:, -1] - slope[:, 0]),
                "<=",
                FLOW_ERROR,
            ),
            measured(
                "largest distance of the flow to the solution of the convex problem, relative",
                relative(w[:, -1] - end, end),
                "<=",
                FLOW_ERROR,
            ),
        ),
        remark=(
            r"The sum is over both terms. Were it over the first alone, the Hessian of $R$ would be the "
            "same."
        ),
    )


def _square_limit(key: PRNGKeyArray, loss: LeastSquares):
    return end_of_flow(Square(_positive(key)), loss)


@claim(id="slides-power-flow")
def power_flow(settings: Settings) -> Evidence:
    r"""Polynomial reparameterization: The flow of powers.

    For $h(\theta) = \theta^{\odot L}$, $L > 2$, the flow of $w$ depends on $w$ alone.

        \frac{d}{dt} w(t) + L w(t)^{\odot (L-1)} \odot \nabla\mathcal{L}(w(t)) = 0

    Correction: This is the flow of $\theta$, with $w$ written for it. That of $w$ is $\frac{d}{dt} w + L^2
    w^{\odot (2 - 2/L)} \odot \nabla\mathcal{L}(w) = 0$.

    Slide "Polynomial reparameterization": dw/dt by automatic differentiation, L = 3, 4, 6.
    """
    losses = problems.losses(settings)
    keys = problems.keys(settings, "powers of the slides")
    numbers = []
    for depth in (3, 4, 6):
        found = problems.each(
            lambda key, loss, depth=depth: _power_velocity(key, loss, depth), keys, losses
        )
        velocity, printed, corrected = (np.asarray(values) for values in found)
        for case, form in (("as printed", printed), ("corrected", corrected)):
            error = relative(form - velocity, velocity)
            numbers.append(
                measured(
                    f"$L = {depth}$: largest error of the velocity, relative",
                    error,
                    "<=",
                    1e-12,
                    case=case,
                )
            )
    return Evidence(tuple(numbers))


def _power_velocity(key: PRNGKeyArray, loss: LeastSquares, depth: int):
    theta = _positive(key)
    velocity = -jax.grad(lambda theta: loss(theta**depth))(theta)
    w, change = jax.jvp(lambda theta: theta**depth, (theta,), (velocity,))
    g = loss.gradient(w)
    return change, -depth * w ** (depth - 1) * g, -(depth**2) * w ** (2 - 2 / depth) * g


@claim(id="slides-power-entropy")
def power_entropy(settings: Settings) -> Evidence:
    r"""Polynomial reparameterization: The entropy of powers.

    For $h(\theta) = \theta^{\odot L}$, $L > 2$, the flow is the mirror flow of $R$.

        R(w) = \langle \theta(0)^{L-2}, w \rangle - \frac{L}{2} \langle \mathbf{1}, w^{\frac{2}{L}} \rangle

    Correction: $R(w) = \frac{1}{L(L-2)} \bigl( \langle \theta(0)^{-(L-2)}, w \rangle - \frac{L}{2} \langle
    \mathbf{1}, w^{2/L} \rangle \bigr)$: without the divisor the flow is that of another speed, and with the
    exponent $L - 2$ the gradient of $R$ does not vanish at $w(0)$.

    Slide "Polynomial reparameterization": d grad R / dt by automatic differentiation, and the end.
    """
    keys = problems.keys(settings, "powers of the slides")
    losses = problems.each(_solvable, problems.losses(settings), keys)
    X, y = data(losses)
    starts, ends = (np.asarray(w) for w in problems.each(_power_end, keys, losses))
    rates = problems.each(_entropy_rates, keys, losses)
    numbers = []
    for case, exponent, divisor in FORMS:
        constant = starts ** (exponent / DEPTH)
        first, last = ((constant - w ** (2 / DEPTH - 1)) / divisor for w in (starts, ends))
        rate, slope = (np.asarray(values) for values in rates[case])
        numbers += [
            measured(
                rf"$L = {DEPTH}$: largest $|\frac{{d}}{{dt}} \nabla R(w) + \nabla\mathcal{{L}}(w)|$, "
                "relative",
                relative(rate + slope, slope),
                "<=",
                1e-12,
                case=case,
            ),
            measured(
                r"largest $|\nabla R(w(0))|$, so that the end minimizes $R$ itself",
                np.abs(first),
                "<=",
                1e-12,
                case=case,
            ),
            measured(
                r"part of $\nabla R(w_\infty)$ outside of the range of $X^\top$, relative",
                off_range(X, last),
                "<=",
                FLOW_ERROR,
                case=case,
            ),
        ]
    numbers.append(
        measured(
            "largest $|Xw_\\infty - y|$, relative",
            relative(np.einsum("pni,pi->pn", X, ends) - y, y),
            "<=",
            FLOW_ERROR,
            case="corrected",
        )
    )
    return Evidence(tuple(numbers))


# The exponent of theta(0), and the divisor.
FORMS = (
    ("as printed", DEPTH - 2.0, 1.0),
    ("corrected", 2.0 - DEPTH, DEPTH * (DEPTH - 2.0)),
)


def _power_end(key: PRNGKeyArray, loss: LeastSquares):
    """w at the start, and where its flow ends."""
    start = Power(_positive(key), DEPTH)
    return start.effective(), end_of_flow(start, loss)


def _entropy_rates(key: PRNGKeyArray, loss: LeastSquares):
    """d grad R / dt for both forms of R, and grad L, at random weights."""
    key_start, key_theta = jax.random.split(key)
    start, theta = _positive(key_start), _positive(key_theta)
    velocity = -jax.grad(lambda theta: loss(theta**DEPTH))(theta)
    found = {}
    for case, exponent, divisor in FORMS:

        def slope(theta, exponent=exponent, divisor=divisor):
            w = theta**DEPTH
            return (start**exponent - w ** (2 / DEPTH - 1)) / divisor

        _, rate = jax.jvp(slope, (theta,), (velocity,))
        found[case] = rate, loss.gradient(theta**DEPTH)
    return found


@claim(id="slides-two-layer-entropy")
def pair_entropy(settings: Settings) -> Evidence:
    r"""Diagonal Linear Networks: The entropy of two layers.

    For $h(u, v) = \frac{1}{2} u \odot v$ the flow is the mirror flow of the hyperbolic entropy.

        R(w) = \frac{1}{2} \sum_{i=1}^d \Bigl( 2 w_i \operatorname{arcsinh}\Bigl(\frac{2
        w_i}{\Delta_0}\Bigr) - \sqrt{4 w_i^2 + \Delta_0^2} + \Delta_0 \Bigr) - \frac{1}{2} \Bigl\langle \log
        \Bigl| \frac{\theta_+(0)}{\theta_-(0)} \Bigr|, \theta \Bigr\rangle

    Correction: The last product is with $w$; and with $\Delta_0 = \frac{1}{2} |u_0^2 - v_0^2|$, $\theta_\pm
    = (u_0 \pm v_0)^2$, which the slide does not define, $R$ is the potential.

    Slide "Diagonal Linear Networks": grad R along flows of u * v / 2, for two readings.
    """
    flow = pair_flows(settings)
    X, _ = data(problems.losses(settings))
    w = np.asarray(flow.theta)
    u, v = np.moveaxis(np.asarray(problems.networks(settings, 2).layers), 1, 0)[:, :, None]
    gap, log = np.abs(u**2 - v**2), np.log(np.abs((u + v) / (u - v)))
    forms = (
        ("as printed", r"$\Delta_0 = |u_0^2 - v_0^2|$, $\theta_\pm = u_0 \pm v_0$", gap, log),
        (
            "corrected",
            r"$\Delta_0 = \frac{1}{2} |u_0^2 - v_0^2|$, $\theta_\pm = (u_0 \pm v_0)^2$",
            gap / 2,
            2 * log,
        ),
    )
    numbers = []
    for case, what, size, shift in forms:
        slope = np.arcsinh(2 * w / size) - shift / 2
        numbers += [
            _mirror(slope, flow, what, case),
            measured(
                rf"{what}: part of $\nabla R(w_\infty)$ outside of the range of $X^\top$, relative",
                off_range(X, slope[:, -1]),
                "<=",
                FLOW_ERROR,
                case=case,
            ),
        ]
    return Evidence(
        tuple(numbers),
        remark=(
            r"As printed, with $\theta = (u, v)$ in the last product, $R$ is not defined: the factors "
            r"have $d$ and $2d$ entries. Measured is the reading with $w$ there and the meaning that the "
            r"symbols have in the paper by the same authors."
        ),
    )
