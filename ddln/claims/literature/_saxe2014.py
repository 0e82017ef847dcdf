"""Saxe, McClelland and Ganguli 2014: exact learning curves of linear networks."""

from functools import cache

import diffrax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import quad

from ddln import plots, theory
from ddln._types import Array
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.flows import gradient_flow
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal, MatrixFactorization

STRENGTHS = np.array([3.0, 2.0, 1.0, 0.5])
START = 1e-3
RTOL = 1e-9
# The tolerance of the integration, over the growth from START to a strength.
FLOW = 1e-5


def whitened(Y: Array | np.ndarray) -> LeastSquares:
    """|theta - Y|^2 / 2 for a matrix theta."""
    units = np.eye(Y.size).reshape(Y.size, *Y.shape)
    return LeastSquares(units, Y.ravel())


def rotated() -> tuple[MatrixFactorization, np.ndarray, np.ndarray, np.ndarray]:
    """Balanced layers aligned with the singular vectors of a target, the target, and the vectors."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    root = START**0.5
    start = MatrixFactorization(root * left, root * right)
    return start, left @ np.diag(STRENGTHS) @ right.T, left, right


def learned() -> np.ndarray:
    """The time of the formula from START to START below each strength."""
    goal = STRENGTHS - START
    return np.log(goal * (STRENGTHS - START) / (START * (STRENGTHS - goal))) / (2 * STRENGTHS)


@cache
def flow() -> tuple[np.ndarray, np.ndarray]:
    """Times, those of the formula among them, and the product of both matrices in the singular basis of Y."""
    start, Y, left, right = rotated()
    ts = np.sort(np.append(np.linspace(0, 15, 76), learned()))
    found = gradient_flow(
        start, whitened(Y), ts[-1], ts=ts, rtol=RTOL, atol=1e-12, adjoint=diffrax.ForwardMode()
    )
    return ts, left.T @ np.asarray(found.theta) @ right


@claim(id="saxe2014-modes")
def modes(settings: Settings) -> Evidence:
    r"""Two layers: Each mode follows a sigmoid.

    From small aligned and balanced layers each singular value of the product is learned by itself.

        \theta(t) = \frac{s e^{2 s t}}{e^{2 s t} - 1 + s / \theta(0)}

    Fixture: strengths 3, 2, 1, 0.5, $\theta(0) = 10^{-3}$, whitened inputs, the loss $\frac12 |U V^\top -
    Y|^2$.

    As summarized: the flow of both matrices in the singular basis of Y against the formula.
    """
    ts, found = flow()
    ours = np.diagonal(found, axis1=1, axis2=2)
    formula = np.asarray(theory.mode_strength(STRENGTHS, np.full(4, START), ts))
    with plots.style():
        figure, ax = plt.subplots()
        lines = ax.plot(ts, formula)
        for line, row in zip(lines, ours.T, strict=True):
            ax.plot(ts[::3], row[::3], "o", ms=3, color=line.get_color())
        ax.set(xlabel="$t$", ylabel="strength of the mode")
    return Evidence(
        (
            compared("strength farthest from the sigmoid", ours, formula, FLOW),
            measured(
                "largest entry off the diagonal",
                np.abs(found - ours[:, None] * np.eye(4)),
                "<=",
                FLOW,
            ),
        ),
        figure=figure,
        caption="Strengths of four modes against time: sigmoids (lines) and the flow (dots).",
    )


@claim(id="saxe2014-learning-time")
def learning_time(settings: Settings) -> Evidence:
    r"""Two layers: The time to learn a mode.

    A mode goes from one strength to another in a time that is inverse to its final strength.

        t = \frac{1}{2 s} \log \frac{\theta_f (s - \theta_0)}{\theta_0 (s - \theta_f)}

    Fixture: as for the modes, from $10^{-3}$ to $s - 10^{-3}$.

    As summarized: the flow at the times of the formula.
    """
    ts, found = flow()
    places = np.searchsorted(ts, learned())
    reached = [found[place, mode, mode] for mode, place in enumerate(places)]
    return Evidence(
        (compared("strength at that time", reached, STRENGTHS - START, FLOW),),
        remark="The time is in units of the inverse learning rate.",
    )


def _diagonal(s: float, depth: int, t: float):
    """The strength at time t of a mode of equal layers."""
    network = DeepDiagonal.balanced(jnp.full(1, START), depth)
    loss = LeastSquares(np.eye(1), np.full(1, s))
    return gradient_flow(
        network, loss, t, rtol=RTOL, atol=1e-12, adjoint=diffrax.ForwardMode()
    ).theta[-1, 0]


@claim(id="saxe2014-depth")
def depth(settings: Settings) -> Evidence:
    r"""Deeper networks: The rate of a mode.

    In a network with more aligned and balanced layers a mode obeys an equation of its own, too.

        \dot\theta = L\, \theta^{2 - 2/L} (s - \theta)

    Fixture: $s = 2$, $L = 3, 4$ equal layers, from $\theta = 10^{-3}$ to $1$.

    As summarized: the time to reach half of the strength, by quadrature of the equation, given to the flow.
    """
    numbers = []
    for layers in (3, 4):
        power = 2 - 2 / layers
        t = quad(
            lambda x, p=power, n=layers: 1 / (n * x**p * (2 - x)), START, 1, epsrel=1e-11, limit=500
        )[0]
        numbers.append(
            compared(f"strength, {layers} layers", float(_diagonal(2.0, layers, t)), 1.0, FLOW)
        )
    return Evidence(tuple(numbers))


CLAIMS = (modes, learning_time, depth)
