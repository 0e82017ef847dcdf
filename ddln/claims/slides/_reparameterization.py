"""Slides "Context" and "Back to Reparameterization": the flow that training theta induces on w = h(theta)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ddln._types import PRNGKeyArray
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.claims.slides import _separable as separable
from ddln.claims.slides._flows import data, end_of_flow
from ddln.parameterizations import (
    AbstractParameterization,
    DeepDiagonal,
    MatrixFactorization,
    Power,
    Square,
    WeightNorm,
)
from ddln.potentials import potential

TITLE = "Back to Reparameterization"
# Step of central differences, relative to the size of the weights.
STEP = 1e-5


def _maps(key: PRNGKeyArray) -> dict[str, AbstractParameterization]:
    """The maps of the slides, at random weights."""
    w = jax.random.normal(key, (3, 6))
    return {
        "square": Square(w[0]),
        "polynomial, $L = 3$": Power(jnp.exp(w[0] / 2), 3),
        "two layers": DeepDiagonal(w[:2], 0.5),
        "three layers": DeepDiagonal(w),
        "product of matrices": MatrixFactorization(w[:2].reshape(4, 3), w[1:].reshape(4, 3)),
        "weight normalization": WeightNorm(w[0, 0], w[1]),
    }


@claim(id="slides-chain-rule")
def chain_rule(settings: Settings) -> Evidence:
    r"""Back to Reparameterization: The flow of w.

    Gradient flow of $\theta$ moves $w = h(\theta)$ along the gradient of $\mathcal{L}$, multiplied by the
    matrix $\mathcal{J}_h \mathcal{J}_h^\top$.

        \frac{d}{dt} w(t) = -\mathcal{J}_h(\theta(t)) \mathcal{J}_h(\theta(t))^\top \nabla_w
        \mathcal{L}(w(t))

    Slide "Back to Reparameterization": dw/dt by differences, against the metric, for six maps.
    """
    found = problems.each(_velocities, problems.keys(settings, "maps"))
    return Evidence(
        tuple(
            measured(f"{name}: largest error, relative", np.asarray(error), "<=", 1e-7)
            for name, error in found.items()
        ),
        remark=(
            r"The left side is $\bigl(h(\theta + \epsilon \dot\theta) - h(\theta - \epsilon "
            r"\dot\theta)\bigr) / 2 \epsilon$ with $\dot\theta$ by automatic differentiation of "
            r"$\mathcal{L}(h(\theta))$; the right side has the metric in closed form."
        ),
    )


def _velocities(key: PRNGKeyArray) -> dict[str, jax.Array]:
    key_maps, key_loss = jax.random.split(key)
    errors = {}
    for name, map_ in _maps(key_maps).items():
        target = jax.random.normal(key_loss, map_.effective().shape)
        weights, unravel = ravel_pytree(map_)

        def effective(weights, unravel=unravel):
            return unravel(weights).effective()

        def loss(weights, effective=effective, target=target):
            return jnp.sum(jnp.square(effective(weights) - target)) / 2

        direction = -jax.grad(loss)(weights)
        time = STEP * jnp.linalg.norm(weights) / jnp.linalg.norm(direction)
        ahead, behind = (effective(weights + sign * time * direction) for sign in (1, -1))
        change = (ahead - behind) / (2 * time)
        velocity = -map_.metric() @ (effective(weights) - target).reshape(-1)
        error = jnp.linalg.norm(change.reshape(-1) - velocity)
        errors[name] = error / jnp.linalg.norm(velocity)
    return errors


@claim(id="slides-inverse-hessian")
def inverse_hessian(settings: Settings) -> Evidence:
    r"""Back to Reparameterization: When it is a mirror flow.

    The flow of $w$ is a mirror flow if $\mathcal{J}_h \mathcal{J}_h^\top$ is the inverse Hessian of some
    $R$.

        \mathcal{J}_h(\theta) \mathcal{J}_h(\theta)^\top = \nabla^2 R(w)^{-1}

    Slide "Back to Reparameterization": the metric along flows against derivatives of grad R.
    """
    flows = {
        "square": separable.square_flows(settings)[0],
        "two layers": separable.pair_flows(settings),
        "three layers": problems.flows(settings, 3),
    }
    numbers = []
    for name, flow in flows.items():
        rows = jax.tree.map(lambda leaf: leaf[:, 4:65:20], flow.parameterization)
        error, mirror = problems.each(_hessians, flow.initial, rows)
        xi = np.asarray(flow.dual)[:, 4:65:20]
        numbers += [
            measured(
                rf"{name}: largest $|\mathcal{{J}}\mathcal{{J}}^\top \nabla^2 R - I|$ along the flow",
                np.asarray(error),
                "<=",
                1e-6,
            ),
            measured(
                rf"{name}: largest $|\nabla R(w(t)) - \nabla R(w(0)) + \int_0^t \nabla\mathcal{{L}}|$, "
                "relative",
                np.abs(np.asarray(mirror) - xi).max((1, 2)) / np.abs(xi).max((1, 2)),
                "<=",
                1e-6,
            ),
        ]
    return Evidence(
        tuple(numbers),
        remark=(
            r"The Hessian is that of central differences of $\nabla R$, $R$ the potential in closed form. "
            'For maps with no such $R$ see "slides-no-mirror-flow".'
        ),
    )


def _hessians(start, rows):
    """|M R'' - 1| and grad R at some points of one flow."""
    q = potential(start)

    def one(map_):
        w = map_.effective()
        step = STEP * jnp.abs(w)
        above, below = q.mirror_map(w + step), q.mirror_map(w - step)
        return map_.metric_diagonal() * (above - below) / (2 * step) - 1, q.mirror_map(w)

    errors, slopes = jax.vmap(one)(rows)
    return jnp.max(jnp.abs(errors)), slopes


@claim(id="slides-same-minimum")
def same_minimum(settings: Settings) -> Evidence:
    r"""Context, Eq. (1); Back to Reparameterization: The reparameterized problem.

    The problem $\min_w \mathcal{L}(w)$ is replaced by $\min_\theta \mathcal{L}(h(\theta))$, and the flow of
    one by the flow of the other.

        \min_{w} \mathcal{L}(w) \;\longrightarrow\; \min_{\theta} \mathcal{L}(h(\theta))

    Condition: $h$ reaches every $w$. The square map does not: $w \geq 0$ for all $\theta$, and its flow
    ends at the least squares with that constraint.

    Slide "Back to Reparameterization": the least losses, of two layers and of squares.
    """
    from scipy.optimize import nnls  # imported late: it takes long

    losses = problems.losses(settings)
    X, y = data(losses)
    ends = np.asarray(problems.each(end_of_flow, problems.networks(settings, 2), losses))
    share = _loss(X, y, ends) / _loss(X, y, 0 * ends)
    flow = separable.square_flows(settings)[1]
    squares = np.asarray(flow.theta)[:, -1]
    constrained = np.array([nnls(*problem)[1] ** 2 / 2 for problem in zip(X, y, strict=True)])
    start = _loss(X, y, 0 * ends)
    what = r"$\mathcal{L}$ at the end over $\mathcal{L}(0)$; the least of all $w$ is 0"
    return Evidence(
        (
            measured(
                f"$h(u, v) = u \\odot v$: largest {what}",
                share,
                "<=",
                1e-9,
                case="with the condition",
            ),
            measured(
                "square map: largest distance of this number to that of non-negative least squares",
                np.abs(_loss(X, y, squares) - constrained) / start,
                "<=",
                1e-6,
                case="with the condition",
            ),
            measured(
                rf"$h(\theta) = \frac{{1}}{{2}} \theta \odot \theta$: median {what}",
                np.median(_loss(X, y, squares) / start),
                "<=",
                1e-9,
                case="without it",
            ),
        )
    )


def _loss(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.sum((np.einsum("pni,pi->pn", X, w) - y) ** 2, axis=1) / 2
