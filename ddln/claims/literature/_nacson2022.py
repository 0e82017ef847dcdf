"""Nacson et al. 2022: the step size of gradient descent over diagonal networks."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.flows import descend
from ddln.limits import minimum_l1
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

SAMPLES, DIM, ALPHA, PROBLEMS, COUNT = 10, 15, 0.5, 8, 20000
# Steps over two by the sharpness at the start.
SHARES = np.array([0.1, 0.4, 0.7, 0.85])
MEANS = (2.0, 0.0)


def _ends(key, mean):
    """Data, and the end of descent for each step."""
    X = mean + jax.random.normal(key, (SAMPLES, DIM))
    X = X / jnp.sqrt(1 + mean**2)
    y = X @ jnp.where(jnp.arange(DIM) < 3, 1.0, 0.0)
    loss = LeastSquares(X, y, 1 / (2 * SAMPLES))
    start = DeepDiagonal.zero_last(jnp.ones(DIM), 2, 2**0.5 * ALPHA)
    hessian = jax.hessian(lambda layers: loss(DeepDiagonal(layers).effective()))(start.layers)
    sharpness = jnp.linalg.eigvalsh(hessian.reshape(2 * DIM, 2 * DIM))[-1]

    def end(share):
        step = optax.sgd(2 * share / sharpness)
        return descend(start, loss, step, COUNT, dual=False, throw=False).theta[-1]

    return X, y, jax.vmap(end)(jnp.asarray(SHARES))


def excesses(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """The excess of the l1 norm at the ends, and their residuals, shape [mean, problem, step]."""
    keys = problems.keys(settings, "nacson")[:PROBLEMS]
    many = [np.repeat(MEANS, len(keys)), jnp.tile(keys, len(MEANS))]
    X, y, theta = (np.asarray(a) for a in problems.each(_ends, many[1], jnp.asarray(many[0])))
    least = np.array([np.abs(minimum_l1(*one)).sum() for one in zip(X, y, strict=True)])
    residual = np.abs(np.einsum("bnd,bsd->bsn", X, theta) - y[:, None]).max(-1)
    excess = np.abs(theta).sum(-1) / least[:, None] - 1
    shape = len(MEANS), len(keys), len(SHARES)
    return excess.reshape(shape), residual.reshape(shape)


@claim(id="nacson2022-step-size")
def step_size(settings: Settings) -> Evidence:
    r"""As summarized by Vega et al. 2025: Larger steps induce sparsity.

    The end of gradient descent has a smaller l1 norm the larger its steps are.

        \gamma_1 < \gamma_2 \;\Rightarrow\; \|\theta_\infty(\gamma_2)\|_1 < \|\theta_\infty(\gamma_1)\|_1

    Condition: All coordinates see gradients of about the same size, as with inputs that have a common mean.
    For centred inputs the scales shrink most where the true parameter is, and the norm grows.

    Fixture: $\theta = u v$, $u_0 = \sqrt2 \alpha$, $v_0 = 0$, $\alpha = 0.5$; $n = 10$, $d = 15$, inputs
    normal around 2 with the condition, around 0 without it, scaled to variance 1 around zero; three ones;
    steps of 0.1 and 0.85 times two over the sharpness of the start, 20000 of them.

    The excess over the least norm, by a linear program, of the large steps over that of the small ones.
    """
    excess, residual = excesses(settings)
    ratio = excess[..., -1] / excess[..., 0]
    with plots.style():
        figure, ax = plt.subplots()
        for row, mean in zip(excess, MEANS, strict=True):
            ax.semilogy(SHARES, np.median(row, axis=0), "o-", label=f"mean {mean:g}")
        ax.set(xlabel=r"step $\gamma$ / (2 / sharpness)", ylabel=r"excess of $\ell_1$")
        ax.legend()
    what = "median excess of large steps over that of small ones"
    return Evidence(
        (
            measured(what, np.median(ratio[0]), "<", 1.0, case="with the condition"),
            measured(
                "largest median residual",
                np.median(residual, axis=1),
                "<=",
                1e-4,  # far below the differences of the norms
                case="with the condition",
            ),
            measured(what, np.median(ratio[1]), "<", 1.0, case="without it"),
        ),
        figure=figure,
        caption=(
            "Excess of the l1 norm against the step: it falls for inputs with a common mean, and grows for "
            "centred ones. Medians of the problems."
        ),
    )


CLAIMS = (step_size,)
