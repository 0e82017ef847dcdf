"""Papazov, Pesme and Flammarion 2024: momentum on diagonal networks in continuous time."""

from functools import cache

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.flows import descend, momentum_flow
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

INERTIA, TIME = 1.0, 4.0
# The time of a step, gamma / (1 - beta).
SHORT = (0.02, 0.01, 0.005)
INERTIAS = np.array([0.3, 1.0, 3.0, 30.0])


def _case(key):
    """Five samples of eight coordinates, and two random layers."""
    key_X, key_y, key_u = jax.random.split(key, 3)
    X = jax.random.normal(key_X, (5, 8)) / 5**0.5
    loss = LeastSquares(X, jax.random.normal(key_y, (5,)))
    return DeepDiagonal(0.5 * jax.random.normal(key_u, (2, 8))), loss


def _flow(start, loss, inertia, t1, rtol=1e-9):
    flow = momentum_flow(
        start,
        loss,
        t1,
        inertia=inertia,
        rtol=rtol,
        atol=1e-2 * rtol,
        adjoint=problems.FORWARD,
        throw=False,
    )
    return flow.parameterization.layers[-1]  # pyright: ignore


@claim(id="papazov2024-intrinsic")
def intrinsic(settings: Settings) -> Evidence:
    r"""As summarized: One number describes the path.

    Heavy ball with step $\gamma$ and momentum $\beta$ follows a flow that depends on one combination of
    both; a step takes the time $\gamma / (1 - \beta)$.

        \lambda \ddot w + \dot w + \nabla F(w) = 0, \qquad \lambda = \frac{\gamma}{(1 - \beta)^2}

    Fixture: $n = 5$, $d = 8$, two layers, normal with deviation 0.5; $\lambda = 1$ and $t = 4$; steps of
    the times 0.02, 0.01, 0.005, so $\gamma = h^2$ and $\beta = 1 - h$.

    The distance of the descent from the flow is of first order in the time of a step.
    """
    start, loss = _case(problems.keys(settings, "papazov")[0])
    flow = np.asarray(jax.jit(_flow)(start, loss, INERTIA, TIME))
    errors = []
    for h in SHORT:
        optimizer = optax.sgd(h**2 / INERTIA, momentum=1 - h / INERTIA)
        run = descend(start, loss, optimizer, round(TIME / h))
        errors.append(np.abs(np.asarray(run.parameterization.layers[-1]) - flow).max())  # pyright: ignore
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    return Evidence(
        (
            compared("order of the distance", orders[-1], 1.0, 0.1),
            measured("distance at the shortest step", errors[-1], "<=", 0.05),
        )
    )


@cache
def shrinkage(settings: Settings) -> np.ndarray:
    """|u^2 - v^2| at a late time over that at the start, [problem, inertia, coordinate]."""
    keys = problems.keys(settings, "papazov")[:2]

    def ratios(key):
        start, loss = _case(key)
        late = jax.vmap(lambda inertia: _flow(start, loss, inertia, 20 * (1 + inertia), 1e-6))(
            jnp.asarray(INERTIAS)
        )
        gaps = jnp.abs(late[:, 0] ** 2 - late[:, 1] ** 2)
        return gaps / jnp.abs(start.layers[0] ** 2 - start.layers[1] ** 2)[None]

    return np.asarray(problems.each(ratios, keys))


@claim(id="papazov2024-balance")
def balance(settings: Settings) -> Evidence:
    r"""As summarized: Momentum balances the layers.

    Along the momentum flow the difference of the squared layers shrinks, which makes the end sparser.

        |u^2 - v^2|(\infty) < |u^2 - v^2|(0)

    Condition: The inertia is small enough for $u \pm v$ to keep their signs. After a change of sign the
    difference grows again, and can end larger than it began.

    Fixture: $n = 5$, $d = 8$, two layers, normal with deviation 0.5; $\lambda = 0.3$ with the condition, 30
    and 100 without it.

    The largest ratio of the difference at the end of the flow to that of the start.
    """
    ratio = shrinkage(settings)
    with plots.style():
        figure, ax = plt.subplots()
        ax.loglog(INERTIAS, ratio.max((0, 2)), "o-", label="largest")
        ax.loglog(INERTIAS, np.median(ratio, axis=(0, 2)), "o-", label="median")
        ax.axhline(1.0, color="0.5", lw=0.8)
        ax.set(xlabel=r"inertia $\lambda$", ylabel=r"$|u^2 - v^2|$, end over start")
        ax.legend()
    what = "largest ratio of the differences"
    return Evidence(
        (
            measured(what, ratio[:, 0], "<", 1.0, case="with the condition"),
            measured(what, ratio[:, 3:], "<", 1.0, case="without it"),
        ),
        figure=figure,
        caption="The difference of the squared layers, end over start, against the inertia.",
    )


CLAIMS = (intrinsic, balance)
