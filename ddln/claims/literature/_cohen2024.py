"""Cohen et al. 2024: the central flow of gradient descent at the edge of stability."""

from functools import cache

import jax
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.flows import central_flow, gradient_flow
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

DEPTH, DIM, SAMPLES, END, WINDOW = 3, 6, 3, 40.0, 16
# Networks by seed, with steps of 8/3 over the sharpness at the end of their gradient flow. The sharpness of
# the last one hardly reaches the edge.
STEPS = {8: 0.0791, 9: 0.093, 22: 0.1541, 19: 0.1458}
TIMES = np.linspace(0.0, END, 201)


def network(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Small layers and sparse data."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(SAMPLES, DIM))
    return 0.5 * rng.normal(size=(DEPTH, DIM)), X, 1.5 * X[:, 0] - X[:, 1]


def _flows(layers, X, y, eta):
    start, loss = DeepDiagonal(layers), LeastSquares(X, y)
    settings = {"ts": TIMES, "throw": False, "adjoint": problems.FORWARD}
    central = central_flow(start, loss, END, step_size=eta, max_steps=1000, **settings)
    plain = gradient_flow(start, loss, END, rtol=1e-6, coordinates="full", **settings)
    paths = [flow.parameterization.layers for flow in (central, plain)]  # pyright: ignore
    return *paths, central.record.eigenvalues[:, 0], central.record.averaged_loss, central.loss  # pyright: ignore


def descent(layers: np.ndarray, X: np.ndarray, y: np.ndarray, step: float):
    """The running means of gradient descent and of its loss, at the saved times after the first window."""
    path, losses = [], []
    for _ in range(int(END / step) + WINDOW + 2):
        residual = X @ layers.prod(0) - y
        path.append(layers.ravel())
        losses.append(residual @ residual / 2)
        others = np.stack([np.delete(layers, j, axis=0).prod(0) for j in range(DEPTH)])
        layers = layers - step * others * (X.T @ residual)
    kernel = np.ones(WINDOW) / WINDOW
    means = [np.convolve(one, kernel, "valid") for one in (*np.array(path).T, losses)]
    times = (np.arange(len(means[0])) + (WINDOW - 1) / 2) * step
    *mean, mean_loss = (np.interp(TIMES, times, one) for one in means)
    return times[0] < TIMES, np.array(mean).T, mean_loss


@cache
def runs() -> dict[str, np.ndarray]:
    """For each network: the sharpness, distances of the mean from both flows, and errors of its loss."""
    data = [np.stack(one) for one in zip(*map(network, STEPS), strict=True)]
    steps = np.array(list(STEPS.values()))
    found = [np.asarray(one) for one in jax.jit(jax.vmap(_flows))(*data, steps)]
    distances, errors = [], []
    for lane, step in enumerate(steps):
        central, plain, _, predicted, loss = (one[lane] for one in found)
        layers, X, y = (one[lane] for one in data)
        later, mean, mean_loss = descent(layers, X, y, step)
        rows = (path.reshape(len(TIMES), -1) for path in (plain, central))
        distances.append([np.linalg.norm(row - mean, axis=1)[later] for row in rows])
        errors.append(
            [
                np.abs(one - mean_loss)[later].sum() / mean_loss[later].sum()
                for one in (predicted, loss)
            ]
        )
    return {
        "edge": found[2] * steps[:, None] / 2,
        "ratio": np.array([plain.mean() / central.mean() for plain, central in distances]),
        "loss": np.array(errors),
    }


@claim(id="cohen2024-edge")
def edge(settings: Settings) -> Evidence:
    r"""As summarized: The sharpness stays at the edge.

    The oscillation of descent keeps the largest eigenvalue of the Hessian from rising above two over the
    step. The central flow has this as a constraint.

        S(w(t)) \leq \frac2\eta

    Fixture: three layers of six entries, normal with deviation 0.5; three samples, X standard normal, $y$
    from the parameter (1.5, -1, 0, ...); NumPy's generator with the seeds 8, 9, 22; $\eta$ = 0.0791, 0.093,
    0.1541; $t \leq 40$.

    The largest sharpness along the flow, in units of the edge.
    """
    largest = runs()["edge"][:3].max(axis=1)
    return Evidence((compared(r"largest $\eta S / 2$", largest, 1.0, 1e-3),))


@claim(id="cohen2024-average")
def average(settings: Settings) -> Evidence:
    r"""As summarized: The average of descent follows the central flow.

    Averaged over its oscillation gradient descent at the edge moves along the central flow, not along
    gradient flow, and its mean loss is that of the flow with the energy of the oscillation.

        \dot w = -\nabla \mathcal{L} - \tfrac12 \nabla \langle \Sigma, H(w) \rangle, \qquad
        \overline{\mathcal{L}} \approx \mathcal{L} + \tfrac12 \langle \Sigma, H \rangle

    Condition: The sharpness of the gradient flow goes well beyond the edge. Where it hardly gets there the
    instability grows out of nothing, and descent stays with gradient flow long after the central flow has
    turned away.

    Fixture: as for the edge; without the condition the seed 19 and $\eta = 0.1458$.

    The mean distance of the running mean over 16 steps, by NumPy, from both flows; the error of the mean loss
    over time, relative to its sum.
    """
    found = runs()
    ratio, (predicted, bare) = found["ratio"], found["loss"].T
    with plots.style():
        figure, ax = plt.subplots()
        for row, (seed, step) in zip(found["edge"], STEPS.items(), strict=True):
            ax.plot(TIMES, row, label=rf"seed {seed}, $\eta = {step:g}$")
        ax.axhline(1.0, color="0.5", lw=0.8)
        ax.set(xlabel="$t$", ylabel=r"$\eta S / 2$ of the central flow")
        ax.legend()
    what = "distance from gradient flow over that from the central flow"
    return Evidence(
        (
            measured(what, ratio[:3], ">=", 5.0, case="with the condition"),
            measured("error of the mean loss", predicted[:3], "<=", 0.4, case="with the condition"),
            measured(
                "error without the oscillation", bare[:3], ">=", 0.7, case="with the condition"
            ),
            measured(what, ratio[3:], ">=", 5.0, case="without it"),
        ),
        figure=figure,
        caption=(
            "The sharpness of four central flows in units of the edge: it rises to 1 and stays there."
        ),
    )


CLAIMS = (edge, average)
