"""Even et al. 2023: the gain of (stochastic) gradient descent over diagonal networks."""

from functools import cache

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy.optimize import root

from ddln import plots
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.flows import descend
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

SAMPLES, DIM, ALPHA = 10, 15, 0.3
# Of the mean squared error over two.
STEPS = np.array([0.02, 0.1, 0.2, 0.3])
COUNT = 3000


def data(settings: Settings):
    rng = np.random.default_rng(settings.seed)
    X = rng.normal(size=(SAMPLES, DIM))
    truth = np.where(np.arange(DIM) < 3, [1.0, -0.7, 0.5] * (DIM // 3), 0)
    return X, X @ truth


def _run(X, y, step, single):
    """Weights and gradients in theta of every step, by the formulas and nothing of the package."""
    loss = LeastSquares(X, y, 1 / (2 * SAMPLES))
    start = DeepDiagonal.zero_last(jnp.ones(DIM), 2, 2**0.5 * ALPHA)
    optimizer = optax.sgd(step)
    key = jax.random.key(0) if single else None
    batch = 1 if single else None
    return descend(
        start,
        loss,
        optimizer,
        COUNT,
        key=key,
        batch_size=batch,
        ts=np.arange(COUNT + 1.0),
        throw=False,
    ).parameterization.layers  # pyright: ignore


@cache
def runs(settings: Settings, single: bool) -> np.ndarray:
    """The layers at every step, shape [step size, step, layer, coordinate]."""
    X, y = (jnp.asarray(a) for a in data(settings))
    sizes = jnp.asarray(STEPS * (0.2 if single else 1.0))
    return np.asarray(jax.jit(jax.vmap(lambda s: _run(X, y, s, single)))(sizes))


def moves(layers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w_+ and w_- of every step, and x with w_+ -> (1 - x) w_+."""
    u, v = layers[:, :, 0], layers[:, :, 1]
    plus, minus = (u + v) / 2**0.5, (u - v) / 2**0.5
    return plus, minus, 1 - plus[:, 1:] / plus[:, :-1]


@claim(id="even2023-gain")
def gain(settings: Settings) -> Evidence:
    r"""Theorem 1: The effective scale is the start times a gain.

    Every step multiplies the scale of the potential by a number that depends on the gradient alone.

        \alpha_\infty^2 = \alpha^2 \exp\Bigl(-\sum_k q(\gamma g_k)\Bigr), \qquad q(x) = -\tfrac12
        \log\bigl((1 - x^2)^2\bigr)

    Fixture: $\theta = u v$, $u_0 = \sqrt2 \alpha$, $v_0 = 0$, $\alpha = 0.3$, the loss $\frac{1}{2n} |X
    \theta - y|^2$; $n = 10$, $d = 15$, standard normal inputs, three of the parameters not zero; four step
    sizes, all samples and single ones, 3000 steps.

    As summarized: the product of both combinations of the layers against the recursion of the gradients.
    """
    numbers = []
    X, y = data(settings)
    for single in (False, True):
        layers = runs(settings, single)
        plus, minus, x = moves(layers)
        found = np.log(np.abs(plus * minus)[:, -1] / ALPHA**2)
        printed = 0.5 * np.log((1 - x**2) ** 2).sum(1)
        kind = "single samples" if single else "all samples"
        numbers.append(compared(f"log of the scale, {kind}", found, printed, 1e-9))
    theta = runs(settings, False).prod(2)
    g = np.einsum("ni,skn->ski", X, theta @ X.T - y) / SAMPLES
    x = STEPS[:, None, None] * g[:, :-1]
    printed = 0.5 * np.log((1 - x**2) ** 2).sum(1)
    plus, minus, _ = moves(runs(settings, False))
    found = np.log(np.abs(plus * minus)[:, -1] / ALPHA**2)
    numbers.append(compared("log of the scale, gradients in NumPy", found, printed, 1e-9))
    return Evidence(tuple(numbers))


def projection(X, y, scale, centre):
    """The solution of X theta = y of least divergence of the entropy with this scale from the centre."""

    def theta(nu):
        return scale * np.sinh(2 * X.T @ nu + np.arcsinh(centre / scale))

    def slope(nu):
        return 2 * (X * (scale * np.cosh(2 * X.T @ nu + np.arcsinh(centre / scale)))) @ X.T

    found = root(lambda nu: X @ theta(nu) - y, np.zeros(len(y)), jac=slope, method="lm", tol=1e-14)
    return theta(found.x)


@claim(id="even2023-end")
def end(settings: Settings) -> Evidence:
    r"""Theorem 1: The end is a projection from a shifted centre.

    The descent ends at the solution nearest to a perturbed centre, in the divergence of the effective
    scale.

        \theta_\infty = \operatorname{arg\,min}_{X \theta = y} D_{\psi}(\theta, \tilde\theta_0), \qquad
        \tilde\theta_0 = \tfrac12 (a_+^2 - a_-^2)

    Condition: The shift of the centre is needed: from the centre 0 the prediction misses the end.

    Fixture: as for the gain, all samples.

    As summarized: the projection by SciPy's root finder in the dual.
    """
    X, _ = data(settings)
    layers = runs(settings, False)
    _, _, x = moves(layers)
    errors = {"with the condition": [], "without it": []}
    for k in range(len(STEPS)):
        total = np.log((1 - x[k]) ** 2) + 2 * x[k], np.log((1 + x[k]) ** 2) - 2 * x[k]
        squares = [ALPHA**2 * np.exp(one.sum(0)) for one in total]
        scale = np.sqrt(squares[0] * squares[1])
        target = X @ layers[k, -1].prod(0)
        for case, centre in (
            ("with the condition", (squares[0] - squares[1]) / 2),
            ("without it", 0 * scale),
        ):
            predicted = projection(X, target, scale, centre)
            errors[case].append(np.linalg.norm(predicted - layers[k, -1].prod(0)))
    with plots.style():
        figure, ax = plt.subplots()
        ax.semilogy(STEPS, errors["with the condition"], "o-", label="shifted centre")
        ax.semilogy(STEPS, errors["without it"], "o-", label="centre 0")
        ax.set(xlabel=r"step $\gamma$", ylabel="error of the predicted end")
        ax.legend()
    return Evidence(
        tuple(
            measured("distance of the end from the prediction", values, "<=", 1e-8, case=case)
            for case, values in errors.items()
        ),
        figure=figure,
        caption="Error of the predicted end against the step size, with and without the shift of the centre.",
    )


CLAIMS = (gain, end)
