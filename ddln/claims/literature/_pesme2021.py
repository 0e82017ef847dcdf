"""Pesme, Pillaud-Vivien and Flammarion 2021: stochastic gradient flow over diagonal networks."""

from functools import cache

import jax.numpy as jnp
import numpy as np

from ddln import theory
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.flows import IsotropicNoise, stochastic_flow
from ddln.limits import limit
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

SAMPLES, DIM, STEP, ALPHA = 10, 15, 0.05, 0.3
KAPPA = 1 / (4 * SAMPLES)
PATHS = 4


@cache
def paths(settings: Settings):
    """The inputs; for theta = w_+^2 - w_-^2 and theta = u v the shrinkage, the integral, end and limits."""
    rng = np.random.default_rng(settings.seed)
    X = rng.normal(size=(SAMPLES, DIM))
    truth = np.where(np.arange(DIM) < 3, 1.0, 0.0)
    loss = LeastSquares(X, X @ truth, KAPPA)
    keys = problems.keys(settings, "pesme")[:PATHS]

    def one(key, factor):
        # w_+- = (u +- v) / sqrt 2: theta = factor (w_+^2 - w_-^2) / 2.
        start = DeepDiagonal(jnp.stack([jnp.full(DIM, 2**0.5 * ALPHA), jnp.zeros(DIM)]), factor)
        path = stochastic_flow(
            start,
            loss,
            300.0,
            key=key,
            noise=IsotropicNoise(),
            step_size=STEP,
            steps=1500,
            throw=False,
        )
        u, v = path.parameterization.layers[-1]  # pyright: ignore
        shrinkage = jnp.log(jnp.abs(u**2 - v**2) / 2 / ALPHA**2) / 2
        end = limit(theory.effective_start(path), loss, throw=False).theta
        plain = limit(start, loss, throw=False).theta
        return shrinkage, path.record.loss_integral[-1], path.theta[-1], end, plain  # pyright: ignore

    found = [
        [np.asarray(a) for a in problems.each(lambda key, c=c: one(key, c), keys)]
        for c in (2.0, 1.0)
    ]
    return X, *found


@claim(id="pesme2021-effective-scale")
def effective_scale(settings: Settings) -> Evidence:
    r"""Theorem 1: The effective scale shrinks with the integral of the loss.

    Along stochastic gradient flow the scale of the potential shrinks, by an exponential of the integrated
    loss.

        \alpha_\infty = \alpha \exp\Bigl(-2 \gamma \operatorname{diag}\Bigl(\frac{X^\top X}{n}\Bigr)
        \int_0^\infty L(\theta_t) dt\Bigr)

    Condition: The parameterization is $\theta = w_+^2 - w_-^2$. For $\theta = u v$ the constant is
    $-\frac12$: the printed one is four times too large.

    Fixture: $L = \frac{1}{4n} |X \theta - y|^2$, $n = 10$, $d = 15$, standard normal inputs, three ones,
    $\alpha = 0.3$, $\gamma = 0.05$; four paths with the isotropic noise of the model.

    As summarized: the scale at $t = 300$, in logarithmic coordinates in which the law is exact at each
    step.
    """
    X, of_squares, of_product = paths(settings)
    numbers = []
    for case, found in (("with the condition", of_squares), ("without it", of_product)):
        shrinkage, integral = found[:2]
        printed = -2 * STEP * np.sum(X**2, 0) / SAMPLES * integral[:, None]
        numbers.append(
            compared(r"$\log(\alpha_\infty / \alpha)$", shrinkage, printed, 1e-9, case=case)
        )
    return Evidence(tuple(numbers))


@claim(id="pesme2021-end")
def end(settings: Settings) -> Evidence:
    r"""Theorem 1: The end is that of gradient flow from the effective scale.

    A path ends where gradient flow ends from the effective scale, another point than that of the own start.

        \theta_\infty = \operatorname{arg\,min}_{X \theta = y} D_{\alpha_\infty}(\theta, \tilde\theta_0)

    Fixture: as for the effective scale.

    As summarized: the path at $t = 300$ against the convex problem of its effective start.
    """
    _, _, theta, ends, plain = paths(settings)[1]
    return Evidence(
        (
            compared(r"entry of $\theta$", theta, ends, 1e-3),
            measured(
                "smallest distance from the end of gradient flow",
                np.abs(theta - plain).max(1),
                ">",
                1e-2,
            ),
        )
    )


CLAIMS = (effective_scale, end)
