"""HaoChen et al. 2020: label noise recovers sparse parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.flows import descend
from ddln.losses import LeastSquares
from ddln.parameterizations import Power

DIM, SAMPLES, SPARSITY, STEP, STEPS = 100, 40, 5, 0.01, 300_000


@claim(id="haochen2020-label-noise")
def label_noise(settings: Settings) -> Evidence:
    r"""Experiment: Label noise recovers, gradient descent does not.

    From a large start descent with fresh noise on the labels finds the sparse parameter, and gradient
    descent ends at another solution.

        \theta = v^2, \qquad \ell_i = \tfrac14 (y_i + \epsilon_i - \langle x_i, v^2 \rangle)^2

    Fixture: $d = 100$, $n = 40$, five ones, step 0.01, 300 000 iterations, noise of deviation 1 on the
    label of a single sample; standard normal inputs; the start $v = 1$ is this package's choice.

    Cost: 300 000 iterations, as here.

    As summarized: the distance of $v^2$ from the parameter at the end of both.
    """
    key_X, key_run = problems.keys(settings, "haochen")[:2]
    X = jax.random.normal(key_X, (SAMPLES, DIM))
    truth = jnp.where(jnp.arange(DIM) < SPARSITY, 1.0, 0.0)
    single = LeastSquares(X, X @ truth, 1 / (4 * SAMPLES))
    start = Power(jnp.ones(DIM), 2)
    noisy = descend(
        start, single, optax.sgd(STEP), STEPS, key=key_run, batch_size=1, label_noise=1.0, dual=False,
        throw=False,
    )  # fmt: skip
    plain = descend(start, single, optax.sgd(STEP), STEPS // 10, dual=False, throw=False)
    size = np.linalg.norm(truth)
    errors = [float(np.linalg.norm(run.theta[-1] - truth) / size) for run in (noisy, plain)]
    return Evidence(
        (
            measured("relative error with label noise", errors[0], "<=", 0.3),
            measured("relative error of gradient descent", errors[1], ">=", 1.0),
        )
    )


CLAIMS = (label_noise,)
