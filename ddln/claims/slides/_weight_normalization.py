"""Slide "Other models and challenges": weight normalization, and where its flow ends."""

from functools import cache

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln._results import is_okay
from ddln._types import PRNGKeyArray
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.claims.slides._flows import FLOW_ERROR, LATE, accurate_flow, data, end_of_flow, relative
from ddln.flows import Trajectory, gradient_flow
from ddln.limits import minimum_l1, minimum_l2
from ddln.losses import LeastSquares
from ddln.parameterizations import Composed, LearningRates, PowerDifference, WeightNorm
from ddln.problems import sparse_regression

TITLE = "Other models and challenges"
# Size of the starts, and the learning rate of the gain of the normalized network.
ALPHA, RATE = 0.1, 0.01
COMPOSED_TIME = 3e3


@cache
def sparse(settings: Settings) -> LeastSquares:
    """Regressions with one true coordinate."""
    keys = problems.keys(settings, "weight normalization")
    return problems.each(_sparse, keys)


def _sparse(key: PRNGKeyArray) -> LeastSquares:
    return sparse_regression(key, problems.SAMPLES, problems.DIM, sparsity=1).loss()


@cache
def flows(settings: Settings) -> Trajectory:
    """Flows of g v / |v| from a small gain and random directions."""
    keys = problems.keys(settings, "directions")
    return problems.finished(problems.each(_flow, keys, sparse(settings)))


def _flow(key: PRNGKeyArray, loss: LeastSquares) -> Trajectory:
    direction = jax.random.normal(key, (problems.DIM,))
    start = WeightNorm(jnp.asarray(ALPHA), direction)
    return accurate_flow(start, loss, [0.0, 0.3, 1.0, 3.0, 10.0, LATE])


def _difference(w: jax.Array) -> PowerDifference:
    return PowerDifference(w[: problems.DIM], w[problems.DIM :], 2)


def _composed_end(loss: LeastSquares):
    """The end of p^2 - q^2 with (p, q) = g v / |v| and a slow gain, and that of p^2 - q^2 itself."""
    w = ALPHA * jnp.ones(2 * problems.DIM)
    size = jnp.linalg.norm(w)
    normalized = LearningRates(WeightNorm(size, w / size), (RATE, 1.0))
    flow = gradient_flow(
        Composed(_difference, normalized),
        loss,
        COMPOSED_TIME,
        rtol=1e-6,
        dual=False,
        adjoint=problems.FORWARD,
        throw=False,
    )
    end = jnp.where(is_okay(flow.result), flow.theta[-1], jnp.nan)
    return end, end_of_flow(_difference(w), loss)


@claim(id="slides-weight-normalization")
def weight_normalization(settings: Settings) -> Evidence:
    r"""Other models and challenges: Weight normalization is sparsity inducing.

    Weight normalization, $h(\theta) = g \frac{v}{\|v\|}$, is sparsity inducing.

        h(\theta) = g \frac{v}{\|v\|} \quad \text{with } \theta = (g, v)

    Condition: It normalizes the weights $(p, q)$ of a diagonal network $w = p \odot p - q \odot q$, and its
    gain learns more slowly than its direction. By itself it turns with every rotation of $w$, so that it
    cannot prefer sparse solutions.

    Slide "Other models and challenges" (Chou, Rauhut, Ward 2024): ends against linear programs.
    """
    losses = sparse(settings)
    X, y = data(losses)
    least = np.array([np.abs(minimum_l1(*one)).sum() for one in zip(X, y, strict=True)])
    nearest = np.array([minimum_l2(*one) for one in zip(X, y, strict=True)])
    composed, network = (np.asarray(end) for end in problems.each(_composed_end, losses))
    alone = np.asarray(flows(settings).theta)[:, -1]
    excess = {
        "least squares": nearest,
        r"$g v / |v|$": alone,
        r"$p \odot p - q \odot q$": network,
        "the same, normalized": composed,
    }
    excess = {name: np.abs(w).sum(1) / least - 1 for name, w in excess.items()}
    turned, back = problems.each(_turned, problems.keys(settings, "directions"), losses)
    with plots.style():
        figure, ax = plt.subplots()
        for row, values in enumerate(excess.values()):
            ax.plot(np.maximum(values, 1e-6), np.full(len(values), row), "o", ms=3, alpha=0.5)
            ax.plot(np.maximum(np.median(values), 1e-6), row, "|", color="black", ms=16, mew=1.5)
        ax.set_yticks(range(len(excess)), list(excess))
        ax.set(xscale="log", xlabel=r"excess of $\|w_\infty\|_1$")
        ax.invert_yaxis()
    what = r"median excess of $\|w_\infty\|_1$ over the least one"
    return Evidence(
        (
            measured(
                f"normalized diagonal network with a slow gain: {what}",
                np.median(excess["the same, normalized"]),
                "<=",
                0.01,
                case="with the condition",
            ),
            measured(
                "the same over that of the network without normalization",
                np.median(excess["the same, normalized"])
                / np.median(excess[r"$p \odot p - q \odot q$"]),
                "<=",
                0.5,
                case="with the condition",
            ),
            measured(
                "largest relative $|Xw - y|$ at its end, median over the problems",
                np.median(relative(np.einsum("pni,pi->pn", X, composed) - y, y)),
                "<=",
                1e-3,
                case="with the condition",
            ),
            measured(
                f"$g v / |v|$ by itself: {what}",
                np.median(excess[r"$g v / |v|$"]),
                "<=",
                0.01,
                case="without it",
            ),
            measured(
                "$g v / |v|$ in turned coordinates, turned back: largest distance of the velocities, "
                "relative",
                relative(np.asarray(turned) - np.asarray(back), np.asarray(back)),
                "<=",
                1e-10,
                case="with the condition",
            ),
        ),
        figure=figure,
        caption=(
            r"The excess of the $\ell_1$ norm at the end of four flows, one point for each problem, the "
            "median as a bar; values below $10^{-6}$ are drawn there. Weight normalization of $w$ itself is "
            "no sparser than least squares; that of a diagonal network, with a slow gain, finds the least "
            "norm."
        ),
    )


def _turned(key: PRNGKeyArray, loss: LeastSquares):
    """The velocity of w for turned data and direction, and the turned velocity."""
    key_direction, key_turn = jax.random.split(key)
    direction = jax.random.normal(key_direction, (problems.DIM,))
    turn, _ = jnp.linalg.qr(jax.random.normal(key_turn, (problems.DIM, problems.DIM)))

    def velocity(start, loss):
        return -start.metric_product(loss.gradient(start.effective()))

    plain = velocity(WeightNorm(1.0, direction), loss)
    turned = velocity(WeightNorm(1.0, turn @ direction), LeastSquares(loss.X @ turn.T, loss.y))
    return turned, turn @ plain


@claim(id="slides-implicit-bias-beyond")
def beyond_mirror_flow(settings: Settings) -> Evidence:
    r"""Other models and challenges: The implicit bias without a mirror flow.

    Some reparameterizations do not lead to mirror flow, but their implicit bias can still be characterized.

        h(\theta) = g \frac{v}{\|v\|}: \quad P w(t) = \frac{g(t)}{g(0)} \exp\Bigl(\frac{g(0)^2 - g(t)^2}{2
        |v|^2}\Bigr) P w(0), \qquad P = I - X^+ X

    Slide "Other models and challenges": the characterization of weight normalization.

    The metric is M = e e^T + (g / |v|)^2 (I - e e^T), e = v / |v|, and |v| is conserved. With g' = -<e,
    grad L>, w' = (g / |v|)^2 (-grad L) + (1 - (g / |v|)^2) g' e. The gradient is in the range of X^T, so P
    w' = (1 - (g / |v|)^2) (g' / g) P w, which is integrated to the formula. At the end X w = y, so that w
    is X^+ y + s P w_0 with the one unknown s = s(g), and g^2 = |X^+ y|^2 + s(g)^2 |P w_0|^2.
    """
    flow = flows(settings)
    X, y = data(sparse(settings))
    w = np.asarray(flow.theta)
    gain = np.asarray(flow.parameterization.gain)  # pyright: ignore[reportAttributeAccessIssue]
    direction = flow.initial.direction  # pyright: ignore[reportAttributeAccessIssue]
    length = np.linalg.norm(np.asarray(direction), axis=1)[:, None]
    pseudo = np.linalg.pinv(X)
    kernel = np.eye(problems.DIM) - pseudo @ X
    part = np.einsum("pij,ptj->pti", kernel, w)
    factor = gain / gain[:, :1] * np.exp((gain[:, :1] ** 2 - gain**2) / (2 * length**2))
    predicted = factor[..., None] * part[:, :1]
    end = np.einsum("pin,pn->pi", pseudo, y) + predicted[:, -1]
    equation = np.sum(end**2, axis=1) / gain[:, -1] ** 2 - 1
    return Evidence(
        (
            measured(
                "largest error of $P w(t)$ along the flow, relative",
                relative(part - predicted, predicted),
                "<=",
                FLOW_ERROR,
            ),
            measured(
                "largest distance of the end to $X^+ y + s P w(0)$, relative",
                relative(w[:, -1] - end, w[:, -1]),
                "<=",
                FLOW_ERROR,
            ),
            measured(
                "largest error of the equation for the gain at the end, "
                "$g^2 = |X^+ y|^2 + s(g)^2 |P w(0)|^2$, relative",
                np.abs(equation),
                "<=",
                FLOW_ERROR,
            ),
        ),
        remark=(
            "This is for weight normalization, where one equation for one number gives the end. The "
            "slides give no formula; for products of matrices none is known. That its flow is no mirror "
            'flow: "slides-no-mirror-flow".'
        ),
    )
