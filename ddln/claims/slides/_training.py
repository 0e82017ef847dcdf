"""Slide "Diagonal Linear Networks": noise, large steps and momentum, on sparse regressions.

All runs train two layers from u = ALPHA sqrt 2, v = 0, where theta = 0, until the loss is small, and are
compared with the end of gradient flow from there.
"""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from ddln import plots, theory
from ddln._types import Array, Float, PRNGKeyArray
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, Number, checked, measured
from ddln.claims.slides._flows import end_of_flow
from ddln.flows import SampleNoise, Trajectory, descend, stochastic_flow
from ddln.limits import minimum_l1
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

TITLE = "Diagonal Linear Networks"
SAMPLES, DIM, SPARSITY = 20, 30, 3
ALPHA = 0.5
STEPS = 4000
MOMENTUM = 0.9
# Threshold of the loss, relative to that of the start.
CONVERGED = 1e-3
# A ratio of errors that noise helps by: for a dense truth it is 1 with a spread of a few percent.
CLEARLY = 0.9
# Offset of the inputs: their mean, over their standard deviation.
MEANS = {"centred": 0.0, "with a mean": 2.0, "dense": 0.0}
# Step sizes, in units of 2 / sharpness at the start; of one sample in units of 3 / n of that.
RATES = {
    "descent": np.array([0.1, 0.5, 0.9, 1.2, 1.4]),
    "samples": np.array([0.1, 0.3, 0.5, 0.7, 0.9]),
    "momentum": np.array([0.03, 0.1, 0.2, 0.3]),
}
# The step size of single samples that numbers are given for.
SHOWN = 3


def network() -> DeepDiagonal:
    """Two layers with theta = 0."""
    return DeepDiagonal.zero_last(jnp.ones(DIM), 2, np.sqrt(2) * ALPHA)


def _problem(key: PRNGKeyArray, mean: float, dense: bool) -> tuple[LeastSquares, Array]:
    key_x, key_values, key_support = jax.random.split(key, 3)
    X = (mean + jax.random.normal(key_x, (SAMPLES, DIM))) / SAMPLES**0.5
    values = jax.random.uniform(key_values, (DIM,), minval=0.5, maxval=1.5)
    support = jax.random.permutation(key_support, DIM) < SPARSITY
    truth = 0.3 * jax.random.normal(key_values, (DIM,)) if dense else jnp.where(support, values, 0)
    return LeastSquares(X, X @ truth), truth


@dataclasses.dataclass(frozen=True)
class Runs:
    """The ends of training, for one kind of problem and all step sizes.

    Attributes:
        error: |theta - truth|^2 over that of gradient flow, shape [problem, rate].
        excess: that of the l1 norm over the least one, over that of gradient flow, same shape.
        loss: the last loss over the first, same shape.
        spread: the standard deviation of -log(scale / scale at the start) over its mean, over the
            coordinates, same shape.
        optimality: that the end is the Bregman projection from the effective start, [problem, rate].
    """

    error: np.ndarray
    excess: np.ndarray
    loss: np.ndarray
    spread: np.ndarray
    optimality: theory.Check


@cache
def regressions(settings: Settings, kind: str) -> tuple[LeastSquares, Array, Array]:
    """Problems of one kind, the true parameters, and where gradient flow ends."""
    keys = problems.keys(settings, f"training, {kind}")
    losses, truths = problems.each(lambda key: _problem(key, MEANS[kind], kind == "dense"), keys)
    return losses, truths, problems.each(_limit, losses)


def _limit(loss: LeastSquares):
    return end_of_flow(network(), loss)


@cache
def runs(settings: Settings, kind: str, method: str) -> Runs:
    """Training of all problems of one kind with all step sizes of one method."""
    losses, truths, flow = regressions(settings, kind)
    end, loss, shrink, optimality = problems.each(
        _TRAIN[method], losses, problems.keys(settings, "batches")
    )
    X, y = np.asarray(losses.X), np.asarray(losses.y)
    least = np.array([np.abs(minimum_l1(*one)).sum() for one in zip(X, y, strict=True)])[:, None]
    truth, flow, end = np.asarray(truths)[:, None], np.asarray(flow)[:, None], np.asarray(end)
    shrink = np.asarray(shrink)
    # Some of the largest steps diverge.
    with np.errstate(all="ignore"):
        return Runs(
            np.sum((end - truth) ** 2, 2) / np.sum((flow - truth) ** 2, 2),
            (np.abs(end).sum(2) - least) / (np.abs(flow).sum(2) - least),
            np.asarray(loss) / np.sum(y**2, axis=1)[:, None],
            shrink.std(2) / np.abs(shrink.mean(2)),
            optimality,
        )


def _train(loss: LeastSquares, key: PRNGKeyArray, method: str):
    start = network()
    unit = 2 / theory.sharpness(start, loss)

    def one(rate: Float[Array, ""]):
        settings = {}
        beta = None
        if method == "samples":
            rate, settings = 3 / SAMPLES * rate, {"key": key, "batch_size": 1}
        if method == "momentum":
            beta = MOMENTUM
        optimizer = optax.sgd(rate * unit, momentum=beta)
        run = descend(start, loss, optimizer, STEPS, throw=False, **settings)
        return _finding(run, loss, momentum=beta is not None)

    return jax.vmap(one)(jnp.asarray(RATES[method]))


def _finding(run: Trajectory, loss: LeastSquares, momentum: bool):
    shrink = theory.gain(run, momentum=momentum).shrink[-1]
    optimality = theory.gain_optimality(run, loss, momentum=momentum)
    return run.theta[-1], run.loss[-1], shrink, optimality


def _stochastic_flow(loss: LeastSquares, key: PRNGKeyArray):
    """theta at the end of the model of descent with single samples."""
    step_size = 3 / SAMPLES * RATES["samples"][SHOWN] * 2 / theory.sharpness(network(), loss)
    path = stochastic_flow(
        network(),
        loss,
        STEPS * step_size,
        key=key,
        noise=SampleNoise(),
        step_size=step_size,
        steps=STEPS // 4,
        throw=False,
    )
    return path.theta[-1]


_TRAIN = {
    "descent": lambda loss, key: _train(loss, key, "descent"),
    "samples": lambda loss, key: _train(loss, key, "samples"),
    "momentum": lambda loss, key: _train(loss, key, "momentum"),
}


def _median(
    what: str, found: Runs, quantity: str, rate: int, case: str, limit: float = 1.0
) -> Number:
    """That the median of the problems that converged is below a limit; NaN unless most of them did."""
    converged = found.loss[:, rate] < CONVERGED
    values = getattr(found, quantity)[converged, rate]
    value = np.median(values) if converged.mean() > 0.5 else np.nan
    return measured(what, value, "<", limit, case=case)


def _optimal(found: Runs, rate: int) -> Number:
    one = jax.tree.map(lambda leaf: leaf[:, rate], found.optimality)
    what = "the end is the Bregman projection of its effective start"
    return checked(one, what, case="with the condition")


def _step(method: str, rate: int) -> str:
    """A step size, with its unit."""
    unit = r"\frac{3}{n} \cdot " if method == "samples" else ""
    return rf"$\gamma = {RATES[method][rate]:g} \cdot {unit}$ 2 / sharpness"


def _draw(ax, curves, quantity: str) -> None:
    """A quantity against the step size; runs that did not converge are left out."""
    for label, rates, found in curves:
        values = np.where(found.loss < CONVERGED, getattr(found, quantity), np.nan)
        shown = np.mean(np.isfinite(values), axis=0) > 0.5
        low, median, high = np.nanquantile(values[:, shown], [0.25, 0.5, 0.75], axis=0)
        (line,) = ax.plot(rates[shown], median, "o-", ms=3, label=label)
        ax.fill_between(rates[shown], low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    ax.axhline(1.0, color="0.5", lw=0.8)
    ax.set_yscale("log")
    ax.legend()


@claim(id="slides-stochasticity")
def stochasticity(settings: Settings) -> Evidence:
    r"""Diagonal Linear Networks: Stochasticity helps generalization.

    The noise of stochastic gradient descent helps generalization.

        |w_\infty^{\text{SGD}} - w^*| < |w_\infty^{\text{flow}} - w^*|

    Condition: The true parameter is sparse. The noise makes the effective scale smaller, and the end
    sparser; for a dense true parameter that is no gain.

    Slide "Diagonal Linear Networks" (Pesme et al. 2021, Even et al. 2023): single samples.
    """
    found = {kind: runs(settings, kind, "samples") for kind in ("centred", "dense")}
    sparse, dense = found.values()
    losses, truths, flow = regressions(settings, "centred")
    path = problems.each(_stochastic_flow, losses, problems.keys(settings, "noise"))
    modelled = np.sum(np.asarray(path - truths) ** 2, 1) / np.sum(np.asarray(flow - truths) ** 2, 1)
    what = (
        rf"median squared error of the end, over that of gradient flow, {_step('samples', SHOWN)}"
    )
    with plots.style():
        figure, ax = plt.subplots()
        rates = 3 / SAMPLES * RATES["samples"]
        _draw(ax, (("sparse truth", rates, sparse), ("dense truth", rates, dense)), "error")
        ax.set(xlabel=r"step $\gamma$ / (2 / sharpness)", ylabel="error / that of the flow")
    return Evidence(
        (
            _median(f"sparse truth: {what}", sparse, "error", SHOWN, "with the condition", CLEARLY),
            _optimal(sparse, SHOWN),
            measured(
                "sparse truth: the same for the end of stochastic gradient flow",
                np.median(modelled),
                "<",
                CLEARLY,
                case="with the condition",
            ),
            _median(f"dense truth: {what}", dense, "error", SHOWN, "without it", CLEARLY),
        ),
        figure=figure,
        caption=(
            "The squared error of the end of descent with single samples, relative to that of gradient "
            "flow, against the step size: it falls for a sparse true parameter and not for a dense one. "
            "Median and quartiles of the problems."
        ),
    )


@claim(id="slides-step-size")
def step_size(settings: Settings) -> Evidence:
    r"""Diagonal Linear Networks: Larger steps, sparser ends.

    Larger step sizes in gradient descent induce sparsity.

        \gamma_1 < \gamma_2 \;\Longrightarrow\; \|w_\infty(\gamma_2)\|_1 < \|w_\infty(\gamma_1)\|_1

    Condition: All coordinates see gradients of about the same size, so that the steps shrink their scales
    alike: inputs with a common mean, or single samples. For centred inputs and all samples the scales
    shrink most where the true parameter is, and the end is less sparse.

    Slide "Diagonal Linear Networks" (Nacson et al. 2022, Even et al. 2023): descent, all samples.
    """
    mean, centred = (runs(settings, kind, "descent") for kind in ("with a mean", "centred"))
    single = runs(settings, "centred", "samples")
    what = "median excess of the $\\ell_1$ norm over that of gradient flow"
    rates = RATES["descent"]
    with plots.style():
        figure, ax = plt.subplots()
        curves = (
            ("all samples, inputs with a mean", rates, mean),
            ("all samples, centred", rates, centred),
            ("single samples, centred", 3 / SAMPLES * RATES["samples"], single),
        )
        _draw(ax, curves, "excess")
        ax.set(
            xlabel=r"step $\gamma$ / (2 / sharpness)", ylabel=r"$\ell_1$ excess / that of the flow"
        )
    same = 2
    return Evidence(
        (
            _median(
                f"inputs with a mean: {what}, {_step('descent', same)}",
                mean,
                "excess",
                same,
                "with the condition",
            ),
            _median(
                f"inputs with a mean: {what}, {_step('descent', -1)}",
                mean,
                "excess",
                -1,
                "with the condition",
            ),
            _median(
                f"single samples, centred: {what}, {_step('samples', SHOWN)}",
                single,
                "excess",
                SHOWN,
                "with the condition",
            ),
            measured(
                "spread of the shrinkage over the coordinates: inputs with a mean over centred ones",
                np.median(mean.spread[:, 0]) / np.median(centred.spread[:, 0]),
                "<=",
                0.5,
                case="with the condition",
            ),
            _optimal(mean, same),
            _median(
                f"all samples, centred: {what}, {_step('descent', same)}",
                centred,
                "excess",
                same,
                "without it",
            ),
        ),
        remark="The sharpness is that of the start; steps beyond 1 are beyond the edge of stability there.",
        figure=figure,
        caption=(
            r"The excess of the $\ell_1$ norm at the end, relative to that of gradient flow, against the "
            "step size. It falls where gradients have the same size in all coordinates, and rises with all "
            "samples of centred inputs. Median and quartiles of the problems that converged."
        ),
    )


@claim(id="slides-momentum")
def momentum(settings: Settings) -> Evidence:
    r"""Diagonal Linear Networks: Momentum helps generalization.

    Adding momentum also helps generalization.

        |w_\infty^{\text{momentum}} - w^*| < |w_\infty^{\text{flow}} - w^*|

    Condition: Inputs with a common mean, so that all coordinates see gradients of about the same size.
    Momentum makes the effective scale smaller, but it also moves the centre of the divergence; for centred
    inputs the error of sparse recovery grows, until the steps are large.

    Slide "Diagonal Linear Networks" (Papazov et al. 2024): heavy ball with momentum 0.9.
    """
    mean, centred = (runs(settings, kind, "momentum") for kind in ("with a mean", "centred"))
    rates = RATES["momentum"]
    what = "median squared error of the end, over that of gradient flow"
    with plots.style():
        figure, ax = plt.subplots()
        curves = (("inputs with a mean", rates, mean), ("centred inputs", rates, centred))
        _draw(ax, curves, "error")
        ax.set(xlabel=r"step $\gamma$ / (2 / sharpness)", ylabel="error / that of the flow")
    numbers = []
    for case, name, found in (
        ("with the condition", "inputs with a mean", mean),
        ("without it", "centred inputs", centred),
    ):
        for rate in (1, 2):
            text = f"{name}: {what}, {_step('momentum', rate)}"
            numbers.append(_median(text, found, "error", rate, case))
    numbers.append(_optimal(mean, 2))
    return Evidence(
        tuple(numbers),
        figure=figure,
        caption=(
            "The squared error of the end of heavy ball with momentum 0.9, relative to that of gradient "
            "flow, against the step size: it falls for inputs with a common mean, and for centred ones is "
            "larger except at the largest steps. Median and quartiles of the problems that converged."
        ),
    )
