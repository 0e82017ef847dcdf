"""Jacobs, Zhou and Burkholz 2025: weight decay along the flow of two layers."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.flows import PiecewiseConstant, gradient_flow
from ddln.limits import limit
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

SAMPLES, DIM, PROBLEMS = 6, 10, 8
DECAY, STOP = 0.1, 2.0
TIMES = np.array([0.0, 0.5, 1.0, STOP, 200.0])
# Of flows with rtol 1e-9, over their growth.
FLOW = 1e-6


def _run(key):
    key_X, key_y, key_u = jax.random.split(key, 3)
    X = jax.random.normal(key_X, (SAMPLES, DIM)) / SAMPLES**0.5
    loss = LeastSquares(X, jax.random.normal(key_y, (SAMPLES,)))
    start = DeepDiagonal.random(key_u, 2, DIM)
    schedule = PiecewiseConstant(jnp.asarray([STOP]), jnp.asarray([DECAY, 0.0]))
    flow = gradient_flow(
        start, loss, TIMES[-1], ts=TIMES, weight_decay=schedule, coordinates="full", rtol=1e-9,
        atol=1e-12, throw=False,
    )  # fmt: skip
    layers = flow.parameterization.layers  # pyright: ignore
    starts = jnp.stack([layers[3], start.layers])
    ends = jax.vmap(lambda one: limit(DeepDiagonal(one), loss, throw=False).theta)(starts)
    switched, ignored = ends
    decayed = limit(start, loss, weight_decay=DECAY, throw=False).theta
    return X, loss.y, layers, flow.theta, switched, ignored, decayed


@cache
def runs(settings: Settings) -> tuple[np.ndarray, ...]:
    """Problems and flows whose decay is switched off at STOP, with the ends that theory gives."""
    keys = problems.keys(settings, "jacobs")[:PROBLEMS]
    return tuple(np.asarray(a) for a in problems.each(_run, keys))


@claim(id="jacobs2025-gap")
def gap(settings: Settings) -> Evidence:
    r"""As summarized: Decay shrinks the gap.

    With weight decay the conserved quantity of two layers falls by the same factor in every coordinate: the
    scale of the potential moves during training.

        u^2(t) - v^2(t) = e^{-2 \int_0^t \lambda}\, (u_0^2 - v_0^2)

    Fixture: $n = 6$, $d = 10$, X normal / $\sqrt6$, y and both layers standard normal; $\lambda = 0.1$ up
    to $t = 2$, then 0.

    The flow of both layers.
    """
    layers = runs(settings)[2]
    found = layers[:, :, 0] ** 2 - layers[:, :, 1] ** 2
    total = DECAY * np.minimum(TIMES, STOP)
    printed = np.exp(-2 * total)[None, :, None] * found[:, :1]
    return Evidence((compared("$u^2 - v^2$", found, printed, FLOW),))


@claim(id="jacobs2025-switched-off")
def switched_off(settings: Settings) -> Evidence:
    r"""As summarized: Decay that is switched off.

    Once the decay has stopped the flow ends where the potential of the smaller gap is least, which is
    another place than without decay.

        \theta_\infty = \operatorname{arg\,min}_{X \theta = y} D_{Q_T}(\theta, \theta_T)

    Fixture: as for the gap.

    The flow at $t = 200$ against the convex problems of both starts.
    """
    _, _, _, theta, switched, ignored, _ = runs(settings)
    return Evidence(
        (
            compared(r"entry of $\theta$", theta[:, -1], switched, 1e-4),
            measured(
                "smallest distance from the end without decay",
                np.linalg.norm(ignored - switched, axis=1),
                ">",
                1e-2,
            ),
        )
    )


@claim(id="jacobs2025-lasso")
def lasso(settings: Settings) -> Evidence:
    r"""As summarized: Constant decay ends at the Lasso.

    With constant decay two layers end at the Lasso from every start without ties.

        \theta_\infty = \operatorname{arg\,min} \tfrac12 |X \theta - y|^2 + \lambda \|\theta\|_1

    Fixture: as for the gap, with $\lambda = 0.1$ at all times.

    The limit against coordinate descent in NumPy.
    """
    X, y, _, _, _, _, decayed = runs(settings)
    lassos = np.stack([coordinate_descent(*one, DECAY) for one in zip(X, y, strict=True)])
    return Evidence((compared(r"entry of $\theta$", decayed, lassos, 1e-7),))


def coordinate_descent(X: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """The Lasso: each coordinate in turn at its minimum, until none moves."""
    theta, norms = np.zeros(X.shape[1]), np.sum(X**2, axis=0)
    for _ in range(20000):
        before = theta.copy()
        for i in range(len(theta)):
            pull = X[:, i] @ (y - X @ theta) + norms[i] * theta[i]
            theta[i] = np.sign(pull) * max(abs(pull) - penalty, 0) / norms[i]
        if np.abs(theta - before).max() < 1e-13:
            break
    return theta


CLAIMS = (gap, switched_off, lasso)
