"""Hoff 2017: penalties of the layers are penalties of their product."""

import jax.numpy as jnp
import numpy as np

from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.limits import limit
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

DECAY = 0.02


def ends(settings: Settings, depth: int):
    """A problem and the end of the flow with decay."""
    rng = np.random.default_rng(settings.seed)
    X, y = rng.normal(size=(6, 10)) / 6**0.5, rng.normal(size=6)
    start = DeepDiagonal(jnp.asarray(rng.normal(size=(depth, 10))))
    return X, y, limit(start, LeastSquares(X, y), weight_decay=DECAY)


@claim(id="hoff2017-lasso")
def lasso(settings: Settings) -> Evidence:
    r"""Hadamard product: Half the squared layers are the l1 norm.

    At a minimum of the penalized loss the layers are equally large, so that their penalty is the l1 norm.

        \min_{u v = \theta} \tfrac12 (|u|^2 + |v|^2) = \|\theta\|_1

    Fixture: $n = 6$, $d = 10$, X normal / $\sqrt6$, y normal, penalty 0.02, two standard normal layers.

    As summarized: the layers at the end of the flow with decay.
    """
    _, _, end = ends(settings, 2)
    layers = np.asarray(end.parameterization.layers)  # pyright: ignore
    norm = np.abs(np.asarray(end.theta)).sum()
    return Evidence((compared("penalty of the layers", (layers**2).sum() / 2, norm, 1e-8),))


@claim(id="hoff2017-bridge")
def bridge(settings: Settings) -> Evidence:
    r"""Hadamard product: More layers are a bridge penalty.

    With L layers the penalty of their product is a power below one, and minima are stationary for it.

        \min_{u^1 \cdots u^L = \theta} \tfrac12 \sum_j |u^j|^2 = \tfrac L2 \sum_i |\theta_i|^{2/L}

    Fixture: as for two layers, with four layers.

    As summarized: the stationarity of the penalized loss on the support of the end.
    """
    X, y, end = ends(settings, 4)
    theta = np.asarray(end.theta)
    layers = np.asarray(end.parameterization.layers)  # pyright: ignore
    support = np.abs(theta) > 1e-8
    gradient = X.T @ (X @ theta - y)
    penalty = DECAY * np.abs(theta[support]) ** -0.5 * np.sign(theta[support])
    return Evidence(
        (
            measured("coordinates of the support", support.sum(), ">=", 1),
            measured(
                "largest violation of stationarity", np.abs(gradient[support] + penalty), "<=", 1e-8
            ),
            compared(
                "penalty of the layers",
                (layers**2).sum() / 2,
                2 * (np.abs(theta) ** 0.5).sum(),
                1e-7,
            ),
        )
    )


CLAIMS = (lasso, bridge)
