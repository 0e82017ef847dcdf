"""Section 2.1: what the layers do along the flow."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln import plots, theory
from ddln._types import Array, Float
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import STATED, Evidence, checked, measured
from ddln.flows import Trajectory
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal
from ddln.problems import figure_3 as figure_3_problem
from ddln.theory import Check

DEPTHS = (2, 3)
# Error of the flows: their relative tolerance times the steps, with room for how errors grow.
FLOW_ERROR = 1e-6


@claim(id="paper-equation-3", equations=(1, 2, 3))
def gradient(settings: Settings) -> Evidence:
    r"""Eqs. (1) to (3): The gradient flow of the layers.

    The gradient of $\mathcal{L}(u^1 \odot \cdots \odot u^L)$ in the layer $u^j$ is the product of the other
    layers times $\nabla\mathcal{L}(\theta)$.

        \theta = \bigodot_{j=1}^L u^j, \qquad \frac{d u^j}{dt} = -\nabla_j \mathcal{L}\Bigl(\bigodot_{k=1}^L
        u^k\Bigr) = -\Bigl(\bigodot_{k \neq j} u^k\Bigr) \odot \nabla\mathcal{L}(\theta)

    Labarrière et al. 2024, equations 1 to 3, against automatic and finite differences.
    """
    numbers = []
    loss = problems.losses(settings)
    for depth in DEPTHS:
        layers = problems.networks(settings, depth).layers
        automatic = problems.each(_gradient, layers, loss)
        products = np.stack([np.prod(np.delete(layers, j, 1), 1) for j in range(depth)], 1)
        slopes = problems.each(lambda u, f: f.gradient(DeepDiagonal(u).effective()), layers, loss)
        printed = products * np.asarray(slopes)[:, None]
        size = np.abs(automatic).max()
        numbers.append(
            measured(
                f"$L = {depth}$, largest difference to automatic differentiation, relative",
                np.abs(printed - automatic) / size,
                "<=",
                1e-12,
            )
        )
    # One direction of the layers, by central differences of the loss.
    move = np.random.default_rng(settings.seed).normal(size=layers.shape)
    step = 1e-5
    ahead, behind = (
        problems.each(
            lambda u, f: f(DeepDiagonal(u).effective()), layers + sign * step * move, loss
        )
        for sign in (1, -1)
    )
    difference = (ahead - behind) / (2 * step) - np.sum(printed * move, axis=(1, 2))
    numbers.append(
        measured(
            "largest difference to central differences of the loss, relative",
            np.abs(difference) / size,
            "<=",
            1e-6,
        )
    )
    return Evidence(tuple(numbers))


def _gradient(layers: Float[Array, "L d"], loss: LeastSquares) -> Float[Array, "L d"]:
    return jax.grad(lambda u: loss(DeepDiagonal(u).effective()))(layers)


@claim(id="paper-equation-4", equations=(4,))
def squared_layer_rate(settings: Settings) -> Evidence:
    r"""Proposition 1.1, Eq. (4): The rate of the squared layers.

    The squares of all layers change at the rate $-\theta \odot \nabla\mathcal{L}(\theta)$.

        \frac{d}{dt} (u^j \odot u^j)(t) = \frac{d}{dt} (u^k \odot u^k)(t) = -\theta(t) \odot
        \nabla\mathcal{L}(\theta(t))

    Correction: The derivative of a square has the factor 2: $\frac{d}{dt} (u^j \odot u^j) = -2\, \theta
    \odot \nabla\mathcal{L}(\theta)$. Nothing that follows in the paper changes.

    Labarrière et al. 2024, equation 4, integrated, along flows of the layers.
    """
    numbers = []
    for case, factor in (("as printed", 1.0), ("corrected", 2.0)):
        for depth in DEPTHS:
            flow, loss = problems.flows(settings, depth), problems.losses(settings)
            check = problems.each(_rate_check(factor), flow, loss)
            numbers.append(checked(check, f"$L = {depth}$, factor {factor:g}", case=case))
    return Evidence(tuple(numbers))


def _rate_check(factor: float):
    return lambda flow, loss: theory.squared_layer_rate(flow, loss, constant=factor)


@claim(id="paper-equation-5", equations=(5,))
def conservation(settings: Settings) -> Evidence:
    r"""Proposition 1.1, Eq. (5): Differences of squared layers are conserved.

    The squares of all layers change by the same amount along the flow.

        u^j(t)^{\odot 2} - u^j(0)^{\odot 2} = u^k(t)^{\odot 2} - u^k(0)^{\odot 2}

    Labarrière et al. 2024, Proposition 1.1, equation 5, along flows of the layers.
    """
    return along_flows(theory.conservation, settings)


@claim(id="paper-proposition-1-2")
def sign_preservation(settings: Settings) -> Evidence:
    r"""Proposition 1.2: Only the smallest layer can vanish.

    A layer that is not the smallest of its coordinate at the start is never zero.

        j \notin \operatorname{arg\,min}_k |u^k_i(0)| \implies u^j_i(t) \neq 0 \quad \forall t > 0

    Labarrière et al. 2024, Proposition 1.2, along flows of the layers.
    """
    return along_flows(theory.sign_preservation, settings)


def along_flows(check: Callable[..., Check], settings: Settings, case: str = STATED) -> Evidence:
    """A check along the flows of both depths, and on the diabetes data."""
    found = checks_of_flows(check, settings)
    return Evidence(tuple(checked(one, label, case=case) for label, one in found.items()))


def checks_of_flows(check: Callable[..., Check], settings: Settings) -> dict[str, Check]:
    """The same before it is a number."""
    loss = problems.losses(settings)
    found = {
        f"$L = {depth}$": problems.each(check, problems.flows(settings, depth), loss)
        for depth in DEPTHS
    }
    return found | {
        "$L = 3$, diabetes data": eqx.filter_jit(check)(*problems.diabetes_flow(settings))
    }


@claim(id="paper-assumption-a")
def assumption_a(settings: Settings) -> Evidence:
    r"""Assumption A: Which starts have one smallest layer.

    The smallest absolute value of each coordinate belongs to one layer alone. Equal layers violate this;
    random layers satisfy it almost surely; so does a start with one layer at zero.

        \#\Bigl(\operatorname{arg\,min}_{k \in [L]} |u^k_i(0)|\Bigr) = 1 \quad \forall i \in [d]

    Labarrière et al. 2024, Assumption A and the remarks below it.
    """
    # Drawn by a program of their own, so that equal layers are the same numbers.
    layers = problems.each(_four_layers, problems.keys(settings, "assumption a"))
    check = problems.each(_assumption, layers)
    numbers = [
        checked(check[name], label)
        for name, label in (
            ("random", "random layers, relative gap to the smallest one"),
            ("zero last", "last layer zero, the others equal, relative gap"),
        )
    ]
    for name in ("equal", "balanced"):
        compared = np.asarray(check[name].compared)
        gaps = np.asarray(check[name].rhs)[compared]
        numbers.append(measured(f"{name} layers, largest gap to the smallest one", gaps, "<=", 0))
    return Evidence(tuple(numbers))


def _four_layers(key) -> Float[Array, "L d"]:
    return jax.random.normal(key, (4, 50))


def _assumption(layers: Float[Array, "L d"]):
    depth = len(layers)
    starts = {
        "random": DeepDiagonal(layers),
        "zero last": DeepDiagonal.zero_last(layers[0], depth),
        "equal": DeepDiagonal(jnp.broadcast_to(layers[:1], layers.shape)),
        "balanced": DeepDiagonal.balanced(layers[0], depth),
    }
    return {name: theory.assumption_a(start) for name, start in starts.items()}


@claim(id="paper-figure-3")
def figure_3(settings: Settings) -> Evidence:
    r"""Figure 3: One layer at most changes its sign.

    For the loss $|X\theta - y|^2$ with random $X$ of shape $10 \times 5$ and $L = 4$ layers, the layer that
    is smallest at the start is the only one of its coordinate that changes its sign.

        \#\{ j : \operatorname{sign} u^j_i(t) \neq \operatorname{sign} u^j_i(0) \} \leq 1

    Labarrière et al. 2024, Figure 3, on fresh random problems.
    """
    keys = problems.keys(settings, "figure 3")
    flow = problems.finished(problems.each(_figure_3_flow, keys))
    layers = np.asarray(flow.parameterization.layers)  # pyright: ignore
    changed = np.any(np.sign(layers) != np.sign(layers[:, :1]), axis=1)
    start = np.abs(layers[:, 0])
    smallest = start == start.min(axis=1, keepdims=True)
    numbers = (
        measured(
            "largest number of layers that change sign at one coordinate", changed.sum(1), "<=", 1
        ),
        measured(
            "changes of sign of layers that are not smallest", (changed & ~smallest).sum(), "<=", 0
        ),
        measured(
            "coordinates at which the smallest layer changes sign", changed.sum() or np.nan, ">=", 1
        ),
    )
    # The first problem and coordinate with a change.
    problem, coordinate = np.unravel_index(np.argmax(changed.any(axis=1)), changed[:, 0].shape)
    one: Trajectory = jax.tree.map(lambda leaf: leaf[problem], flow)
    return Evidence(
        numbers,
        figure=plots.layers(one, int(coordinate)).get_figure(root=True),
        caption=(
            f"The four layers of coordinate {coordinate + 1} over time, on the first random "
            f"problem where one "
            "changes its sign: it is the one that is smallest at the start, drawn bold."
        ),
    )


def _figure_3_flow(key) -> Trajectory:
    problem, layers = figure_3_problem(key)
    ts = jnp.linspace(0.0, 0.5, problems.TIMES)
    return problems.flow_of_layers(DeepDiagonal(layers), problem.loss(scale=1.0), ts)


@claim(id="paper-equation-6", equations=(6,))
def reduced_flow(settings: Settings) -> Evidence:
    r"""Eq. (6): One layer carries the others.

    The flow of the smallest layer $v^1$ is closed: the other layers follow from it by the conserved
    differences, with the signs that they had at the start.

        v^j(t) = \operatorname{sign}(v^j(0)) \odot \sqrt{v^1(t)^{\odot 2} + \Delta_j}, \qquad
        \frac{dv^1}{dt} = -\operatorname{sign}\Bigl(\bigodot_{j \neq 1} v^j(0)\Bigr) \odot \Bigl(\bigodot_{j
        \neq 1} \sqrt{(v^1)^{\odot 2} + \Delta_j}\Bigr) \odot \nabla\mathcal{L}(\theta)

    Labarrière et al. 2024, equation 6, against the flow of all layers.
    """
    flow = problems.flows(settings, 3)
    start, smallest, others = sorted_layers(flow)
    gaps = start[:, 1:] ** 2 - start[:, :1] ** 2
    rebuilt = np.sign(start[:, None, 1:]) * np.sqrt(smallest[:, :, None] ** 2 + gaps[:, None])
    reduced = problems.reduced_flows(
        problems.networks(settings, 3), problems.losses(settings), problems.times()
    )
    size = np.abs(start).max()
    return Evidence(
        (
            measured(
                "largest error of the other layers, rebuilt from the smallest one, relative",
                np.abs(rebuilt - others) / size,
                "<=",
                FLOW_ERROR,
            ),
            measured(
                r"largest difference of $\theta$ between Eq. (6) and the flow of all layers, relative",
                np.abs(reduced.theta - flow.theta) / np.abs(flow.theta).max(),
                "<=",
                FLOW_ERROR,
            ),
        )
    )


def sorted_layers(flow: Trajectory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The layers [B, L, d] at the start, the smallest one first, and it and the others over time."""
    layers = np.asarray(flow.parameterization.layers)  # pyright: ignore[reportAttributeAccessIssue]
    order = np.argsort(np.abs(layers[:, 0]), axis=1)
    ordered = np.take_along_axis(layers, order[:, None], axis=2)
    return ordered[:, 0], ordered[:, :, 0], ordered[:, :, 1:]


@claim(id="paper-below-equation-6")
def effective_parameter(settings: Settings) -> Evidence:
    r"""Below Eq. (6): The effective parameter from one layer.

    $\theta$ is the product of $\sqrt{(v^1)^2 + \Delta_j}$ over all $j$, with the sign that it has at the
    start.

        \theta(t) = \operatorname{sign}\Bigl(\bigodot_{j=1}^L v^j(0)\Bigr) \odot \Bigl(\bigodot_{j=1}^L
        \sqrt{v^1(t)^{\odot 2} + \Delta_j}\Bigr)

    Correction: As $\Delta_1 = 0$, the printed $\theta$ contains $|v^1|$ and could not change its sign,
    which it does: $\theta = \operatorname{sign}\bigl(\bigodot_{j \neq 1} v^j(0)\bigr) \odot v^1 \odot
    \bigodot_{j \neq 1} \sqrt{(v^1)^{\odot 2} + \Delta_j}$.

    Labarrière et al. 2024, the display below equation 6, along flows of the layers.
    """
    flow = problems.flows(settings, 3)
    theta = np.asarray(flow.theta)
    start, smallest, _ = sorted_layers(flow)
    gaps = start[:, 1:] ** 2 - start[:, :1] ** 2
    roots = np.sqrt(smallest[:, :, None] ** 2 + gaps[:, None]).prod(axis=2)
    printed = np.sign(start.prod(axis=1))[:, None] * np.abs(smallest) * roots
    corrected = np.sign(start[:, 1:].prod(axis=1))[:, None] * smallest * roots
    return Evidence(
        tuple(
            measured(
                r"largest error of $\theta(t)$, relative",
                np.abs(form - theta) / np.abs(theta).max(),
                "<=",
                FLOW_ERROR,
                case=case,
            )
            for case, form in (("as printed", printed), ("corrected", corrected))
        )
    )


@claim(id="paper-equation-7", equations=(7,))
def two_layers(settings: Settings) -> Evidence:
    r"""Eq. (7): Two layers are solved in closed form.

    For $L = 2$ the flow of the smallest layer contains a single square root, so that it can be solved: with
    $\xi(t) = -\int_0^t \nabla\mathcal{L}(\theta(s)) ds$ it is a hyperbolic sine of $\xi$.

        \frac{dv^1}{dt} + \operatorname{sign}(v^2(0)) \odot \sqrt{(v^1)^{\odot 2} + \Delta} \odot
        \nabla\mathcal{L}(\theta) = 0 \implies v^1 = \sqrt{\Delta} \odot
        \sinh\Bigl(\operatorname{arcsinh}\frac{v^1(0)}{\sqrt{\Delta}} + \operatorname{sign}(v^2(0)) \odot
        \xi\Bigr)

    Labarrière et al. 2024, equation 7, solved, along flows of two layers.
    """
    flow = problems.flows(settings, 2)
    assert flow.dual is not None
    start, smallest, _ = sorted_layers(flow)
    root = np.sqrt(start[:, 1] ** 2 - start[:, 0] ** 2)
    angle = np.arcsinh(start[:, 0] / root)[:, None] + np.sign(start[:, 1])[:, None] * flow.dual
    error = np.abs(root[:, None] * np.sinh(angle) - smallest) / np.abs(smallest).max()
    return Evidence((measured("largest error of $v^1(t)$, relative", error, "<=", FLOW_ERROR),))
