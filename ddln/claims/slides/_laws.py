"""Slide "Other models and challenges": maps that are no mirror flow, and conservation laws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddln import theory
from ddln._types import Array, PRNGKeyArray
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, checked, measured
from ddln.claims.slides import _matrix_factorization as products
from ddln.claims.slides import _scale as scale
from ddln.flows import Trajectory, descend
from ddln.losses import LeastSquares
from ddln.parameterizations import (
    DeepDiagonal,
    MatrixFactorization,
    SymmetricFactorization,
    WeightNorm,
)

TITLE = "Other models and challenges"
# Length of the two legs, and the number of steps of each; also that of descents.
TIME, STEPS = 0.1, 100
# Coordinates with two layers at zero.
FROZEN = 6


def _maps(key: PRNGKeyArray):
    w = jax.random.normal(key, (3, 6))
    return {
        "three layers": DeepDiagonal(w[:, :4]),
        "product of matrices": MatrixFactorization(w[:2].reshape(4, 3), w[1:].reshape(4, 3)),
        "weight normalization": WeightNorm(w[0, 0], w[1]),
    }


@claim(id="slides-no-mirror-flow")
def no_mirror_flow(settings: Settings) -> Evidence:
    r"""Other models and challenges: Some reparameterizations do not lead to mirror flow.

    Some reparameterizations do not lead to mirror flow.

        \nexists R: \; \mathcal{J}_h \mathcal{J}_h^\top = (\nabla^2 R)^{-1} \quad \text{for } h = U V^\top
        \text{ and } h = g \tfrac{v}{\|v\|}

    Slide "Other models and challenges": the two orders of two gradients, and integrability.

    In a mirror flow w is a function of the accumulated gradient, so that following one linear loss and then
    another ends where the other order ends.
    """
    found = problems.each(_orders, problems.keys(settings, "orders"))
    numbers = []
    for name, (distance, residual) in found.items():
        commutes = name == "three layers"
        relation, apart, rest = ("<=", 1e-8, 1e-8) if commutes else (">=", 1e-6, 1e-3)
        numbers += [
            measured(
                f"{name}: {'largest' if commutes else 'smallest'} distance of the ends for the two "
                "orders of two gradients, relative to the way",
                np.asarray(distance),
                relation,
                apart,
            ),
            measured(
                f"{name}: {'largest' if commutes else 'smallest'} part of the metric that is not "
                "integrable, relative",
                np.asarray(residual),
                relation,
                rest,
            ),
        ]
    return Evidence(
        tuple(numbers),
        remark="Three layers are the control: a mirror flow, by the same two measurements.",
    )


def _orders(key: PRNGKeyArray):
    key_maps, key_first, key_second = jax.random.split(key, 3)
    found = {}
    for name, map_ in _maps(key_maps).items():
        shape = map_.effective().shape
        pair = [jax.random.normal(one, shape) for one in (key_first, key_second)]
        one, other = (_two_legs(map_, order) for order in (pair, pair[::-1]))
        way = jnp.linalg.norm(one - map_.effective())
        residual = jnp.max(theory.integrability(map_, points=1).lhs)
        found[name] = jnp.linalg.norm(one - other) / way, residual
    return found


def _two_legs(map_, order: list[Array]) -> Array:
    """w after the gradient flow of <a, w> for a short time, then of <b, w>."""
    for direction in order:
        map_ = _leg(map_, direction)
    return map_.effective()


def _leg(map_, direction: Array):
    # Runge-Kutta of order 4: the flow of smooth fields for a short time, without a solver to compile.
    weights, static = eqx.partition(map_, eqx.is_inexact_array)

    def velocity(weights):
        return jax.grad(lambda w: -jnp.sum(direction * eqx.combine(w, static).effective()))(weights)

    def moved(weights, slope, h):
        return jax.tree.map(lambda leaf, change: leaf + h * change, weights, slope)

    def step(weights, _):
        h = TIME / STEPS
        first = velocity(weights)
        second = velocity(moved(weights, first, h / 2))
        third = velocity(moved(weights, second, h / 2))
        fourth = velocity(moved(weights, third, h))
        for slope, share in ((first, 1), (second, 2), (third, 2), (fourth, 1)):
            weights = moved(weights, slope, share * h / 6)
        return weights, None

    return eqx.combine(jax.lax.scan(step, weights, None, length=STEPS)[0], static)


@claim(id="slides-conservation-laws")
def conservation_laws(settings: Settings) -> Evidence:
    r"""Other models and challenges: What are the invariant quantities: their number.

    Conservation laws: what are the invariant quantities during training?

        \#\{\text{laws}\} = \dim \theta - \dim \operatorname{Lie}(\nabla h_1, \dots, \nabla h_d)

    Slide "Other models and challenges" (Marcotte et al. 2023): counts against closed formulas.
    """
    rng = np.random.default_rng(settings.seed)
    rows, columns, rank = 3, 2, 2

    def random(*shape):
        return jnp.asarray(rng.normal(size=shape))

    cases = (
        (
            "$u^1 \\odot u^2 \\odot u^3$ of 4 coordinates: $(L - 1) d$",
            DeepDiagonal(random(3, 4)),
            2 * 4,
        ),
        (
            "$U V^\\top$, $U$ 3 x 2, $V$ 2 x 2: $r (r + 1) / 2$",
            MatrixFactorization(random(rows, rank), random(columns, rank)),
            rank * (rank + 1) // 2,
        ),
        ("$U U^\\top$, $U$ 3 x 2: none", SymmetricFactorization(random(rows, rank)), 0),
        ("$g v / |v|$ of 4 coordinates: one", WeightNorm(random(1)[0], random(4)), 1),
    )
    numbers = []
    for name, map_, expected in cases:
        laws = theory.count_conservation_laws(map_)
        numbers.append(
            measured(f"{name}: difference to the count", abs(laws.count - expected), "<=", 0)
        )
        numbers.append(
            measured(f"{name}: quadratic laws, that certify it", laws.independent, ">=", expected)
        )
    return Evidence(
        tuple(numbers),
        remark=(
            "Weights are random; the counts are those at generic weights, for all losses. The upper bound "
            "is from the orbit of the gradient fields, the lower one from a basis of quadratic laws."
        ),
    )


@claim(id="slides-invariants")
def invariants(settings: Settings) -> Evidence:
    r"""Other models and challenges: What are the invariant quantities: along training.

    Quantities are invariant during training.

        u^j \odot u^j - u^k \odot u^k \;(\text{layers}), \qquad U^\top U - V^\top V \;(\text{matrices}),
        \qquad |v| \;(\text{weight normalization})

    Condition: Training is gradient flow. Finite steps and momentum change the invariants of the flow.

    Slide "Other models and challenges": invariants along flows, descents and momentum flows.
    """
    losses = problems.losses(settings)
    check = problems.each(theory.conservation, problems.flows(settings, 3), losses)
    matrices = products.flows(settings)[1]
    steps, ball, recursion = problems.each(_drifts, problems.networks(settings, 2), losses)
    return Evidence(
        (
            checked(check, "gradient flow, $L = 3$", case="with the condition"),
            measured(
                "gradient flow of $U V^\\top$: largest change of $U^\\top U - V^\\top V$, over "
                "$|U|^2 + |V|^2$",
                matrices,
                "<=",
                1e-6,
                case="with the condition",
            ),
            measured(
                "descent, $L = 2$: largest relative change of $|u^2 - v^2|$ in 100 steps, median over the "
                "problems",
                np.median(np.asarray(steps)),
                "<=",
                1e-6,
                case="without it",
            ),
            measured(
                "heavy ball with momentum 0.9: the same",
                np.median(np.asarray(ball)),
                "<=",
                1e-6,
                case="without it",
            ),
            checked(
                recursion,
                "descent: each step multiplies $u^2 - v^2$ by $1 - \\gamma^2 g^2$",
                case="with the condition",
            ),
        ),
    )


def _drifts(network: DeepDiagonal, loss: LeastSquares):
    """Changes of |u^2 - v^2| by descent and by heavy ball, and the law of the first."""
    size = jnp.sum(jnp.square(loss.X)) * jnp.max(jnp.sum(jnp.square(network.layers), axis=0))
    rate = 0.2 / size
    descent = descend(network, loss, optax.sgd(rate), STEPS, ts=np.arange(STEPS + 1), throw=False)
    heavy = descend(network, loss, optax.sgd(rate, momentum=0.9), STEPS, throw=False)
    first, last, heavy_last = (
        jnp.square(layers[0]) - jnp.square(layers[1])
        for layers in (network.layers, _last_layers(descent), _last_layers(heavy))
    )
    changes = [jnp.max(jnp.abs(gap / first - 1)) for gap in (last, heavy_last)]
    return *changes, theory.gap_recursion(descent, loss)


def _last_layers(run: Trajectory) -> Array:
    return run.parameterization.layers[-1]  # pyright: ignore[reportAttributeAccessIssue]


@claim(id="slides-global-minimum")
def global_minimum(settings: Settings) -> Evidence:
    r"""Conclusion: Convergence to a global minimum.

    What about convergence to a global minimum?

        \mathcal{L}(h(\theta(t))) \to \min_\theta \mathcal{L}(h(\theta)) \; ?

    Condition: For deep diagonal networks: at each coordinate one layer is the smallest at the start. A
    coordinate with two layers at zero never moves.

    Slide "Conclusion": the loss at the end, for three random layers, and with zeros in two of them.
    """
    losses = problems.losses(settings)
    X, y = scale.data(losses)
    half = np.sum(y**2, axis=1) / 2
    free = scale.ends(settings, 3)[1][:, -5]
    networks = problems.networks(settings, 3)
    layers = networks.layers.at[:, :2, :FROZEN].set(0.0)
    frozen = eqx.tree_at(lambda network: network.layers, networks, layers)
    stuck = problems.each(problems.flow_of_layers, frozen, losses)
    least = np.array([_least(*one) for one in zip(X, y, strict=True)])
    loss = np.asarray(stuck.loss)[:, -1]
    return Evidence(
        (
            measured(
                r"one layer the smallest: largest $\mathcal{L}$ at the end over $\mathcal{L}(0)$",
                np.sum((np.einsum("pni,pi->pn", X, free) - y) ** 2, axis=1) / 2 / half,
                "<=",
                1e-9,
                case="with the condition",
            ),
            measured(
                r"two layers zero at six coordinates of ten: median $\mathcal{L}$ at a late time over "
                r"$\mathcal{L}(0)$",
                np.median(loss / half),
                "<=",
                1e-9,
                case="without it",
            ),
            measured(
                "there: the least loss that the other coordinates allow, over the loss; largest",
                least / loss,
                "<=",
                1.0 + 1e-9,
                case="with the condition",
            ),
        ),
        remark=(
            "The slide asks and cites; the answer is for the maps of the talk. The flow from a start without "
            "ties converges for every $X$, at a linear rate (Theorem 2 of the paper)."
        ),
    )


def _least(X: np.ndarray, y: np.ndarray) -> float:
    """The least loss with the first coordinates at zero."""
    allowed = X[:, FROZEN:]
    return float(np.sum((allowed @ np.linalg.lstsq(allowed, y, rcond=None)[0] - y) ** 2) / 2)
