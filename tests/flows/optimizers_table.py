"""Writes the tables of docs/theory/other-optimizers.md: `python tests/flows/optimizers_table.py`."""

import functools
import itertools
from pathlib import Path

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import optax

import ddln

PAGE = Path(__file__).parents[2] / "docs" / "theory" / "other-optimizers.md"
MARGINS = "<!-- margins -->\n", "<!-- end of margins -->\n"
ENDS = "<!-- ends -->\n", "<!-- end of ends -->\n"

EXPONENTS = (1.0, 1.5, 2.0, 3.0)
LONG = 100.0  # the time of normalized flows: what their weights travel in their norm


# Separable data, rows times labels, that have several directions with a margin.
ROWS = np.random.default_rng(1).normal(size=(5, 4)) + np.array([0.8, 0.0, 0.0, 0.3])


def soft_margin(theta):
    """The logarithm of the exponential loss: normalized flows of both have the same path."""
    return jax.nn.logsumexp(-(jnp.asarray(ROWS) @ theta))


def first_layers(depth):
    """The start of all runs on the separable data."""
    return jnp.asarray(np.random.default_rng(2).uniform(0.2, 1.0, (depth, 4)))


@functools.cache
def steepest_layers(depth):
    """The layers of normalized steepest flows, shape [exponents, times, depth, 4]."""
    times = [LONG / 100, LONG / 10, LONG]

    @jax.jit
    @jax.vmap
    def path(exponent):
        flow = ddln.steepest_flow(
            ddln.DeepDiagonal(first_layers(depth)), soft_margin, times[-1], exponent=exponent,
            normalized=True, ts=times, width=jnp.where(exponent == 1, 1e-2, 1e-6), rtol=1e-8,
            throw=False,
        )  # fmt: skip
        return flow.parameterization.layers, ddln.is_okay(flow.result)

    layers, okay = path(jnp.asarray(EXPONENTS))
    assert np.all(okay)
    return np.asarray(layers)


STEP, RADIUS = 0.01, 0.5
NORMALIZED = optax.chain(optax.contrib.normalize(), optax.sgd(STEP))
ASCENTS = {
    "l2": optax.chain(optax.contrib.normalize(), optax.sgd(RADIUS)),
    "linf": optax.sign_sgd(RADIUS),
}
DESCENTS = {
    "Adam": optax.adam(STEP, eps=0.0),
    **{
        f"SAM, {norm}": optax.contrib.sam(NORMALIZED, ascent, opaque_mode=True)
        for norm, ascent in ASCENTS.items()
    },
}


def descent_layers(name, depth):
    """The layers after steps of a total length of LONG in the norm of an optimizer."""
    start = ddln.DeepDiagonal(first_layers(depth))
    steps = round(LONG / STEP)
    return np.asarray(
        ddln.descend(start, soft_margin, DESCENTS[name], steps, dual=False).final.layers
    )


@functools.cache
def largest_margin(power):
    """max min_i <x_i, theta> / |theta|_r, r the power.

    For r >= 1 by a convex program. For r < 1 |theta|_r is concave within an orthant, so that it is least at a
    vertex of the points of an orthant whose margins are at least 1: all of them are tried.
    """
    if power >= 1:
        theta = cp.Variable(ROWS.shape[1])
        norm = cp.norm(theta, "inf" if np.isinf(power) else power)
        cp.Problem(cp.Minimize(norm), [ROWS @ theta >= 1]).solve(solver=cp.CLARABEL)
        return 1 / norm.value
    planes = np.concatenate([ROWS, np.eye(4)])
    sides = np.concatenate([np.ones(len(ROWS)), np.zeros(4)])
    subsets = [list(subset) for subset in itertools.combinations(range(len(planes)), 4)]
    vertices = np.stack([
        np.linalg.solve(planes[subset], sides[subset])
        for subset in subsets if abs(np.linalg.det(planes[subset])) > 1e-12
    ])  # fmt: skip
    inside = (vertices @ ROWS.T >= 1 - 1e-9).all(axis=1)
    sizes = np.sum(np.abs(vertices[inside]) ** power, axis=1) ** (1 / power)
    return 1 / sizes.min()


def margin_ratio(layers, p):
    """r = p / L, and the margin of theta in the norm l_r over the largest one."""
    theta, power = layers.prod(axis=0), p / len(layers)
    scaled = theta / np.abs(theta).max()
    size = 1.0 if np.isinf(power) else np.sum(np.abs(scaled) ** power) ** (1 / power)
    return power, np.min(ROWS @ scaled) / size / largest_margin(power)


def misalignment(layers, p):
    """1 - <w, d> / (|w|_p |d|_q), d = -grad_w L; 0 where w has the largest margin to first order."""
    q = 1.0 if np.isinf(p) else p / (p - 1)
    theta = layers.prod(axis=0)
    shares = np.exp(np.min(ROWS @ theta) - ROWS @ theta)
    push = ROWS.T @ (shares / shares.sum()) * theta / layers
    return 1 - np.sum(layers * push) / (
        np.linalg.norm(layers.ravel(), p) * np.linalg.norm(push.ravel(), q)
    )


def margin_ends():
    """Optimizer, depth, p, layers and status of every row."""
    for depth in (2, 3):
        found = steepest_layers(depth)[:, -1]
        for exponent, layers in zip(EXPONENTS, found, strict=True):
            p = np.inf if exponent == 1 else exponent / (exponent - 1)
            status = "holds" if p >= depth else "holds under a condition: stationary"
            yield f"steepest, q = {exponent:g}", depth, p, layers, status
        for name in DESCENTS:
            if name == "SAM, linf" and depth == 3:
                continue
            status = {"SAM, l2": "holds", "SAM, linf": "holds under a condition: the start"}
            layers = descent_layers(name, depth)
            p = np.inf if name == "Adam" else 2.0
            yield (
                name,
                depth,
                p,
                layers,
                status.get(name, "not known") if depth == 2 else "not known",
            )


def margin_rows():
    """The table of margins."""
    lines = [
        "| optimizer | depth | norm of weights | norm of theta | margin / largest | misalignment | status |"
    ]
    lines.append("| " + "--- | " * 7)
    for name, depth, p, layers, status in margin_ends():
        power, ratio = margin_ratio(layers, p)
        lines.append(
            f"| {name} | {depth} | l_{p:g} | l_{power:.3g} | {ratio:.4f} | "
            f"{misalignment(layers, p):.1e} | {status} |"
        )
    return "\n".join(line.rstrip() for line in lines) + "\n"


TRAINED, RATIO = 40, 0.4
SCALES = (0.03, 0.3)


def regression():
    """The loss of 40 patients, the largest loss that ends a run, and the error on the others."""
    made = ddln.problems.diabetes(quadratic=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(made.X.shape[0])
    X, y = np.asarray(made.X)[order], np.asarray(made.y)[order]
    X, y = X / np.linalg.norm(X[:TRAINED], axis=0), y / np.linalg.norm(y[:TRAINED])
    rest = slice(TRAINED, None)

    def held_out(theta):
        return np.sum((X[rest] @ theta - y[rest]) ** 2) / np.sum(y[rest] ** 2)

    return ddln.LeastSquares(X[:TRAINED], y[:TRAINED]), held_out


def ends(depth, loss):
    """theta of each optimizer and scale where the loss is RATIO of that of theta = 0; NaN if it never is."""
    level = RATIO * float(loss(jnp.zeros(64)))
    starts = [ddln.DeepDiagonal.zero_last(jnp.ones(64), depth, scale) for scale in SCALES]
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(s for s in starts for _ in EXPONENTS)
    )
    result = ddln.sweep(
        stacked, loss, 1e20, dynamics=ddln.SteepestDynamics(ddln.PerLane(jnp.asarray(EXPONENTS * 2))),
        event=ddln.LossBelow(level), max_steps=100_000, progress=False,
    )  # fmt: skip
    assert (result.result == ddln.RESULTS.event_occurred).all(), result.failures()
    theta = np.asarray(result.theta)[:, 0].reshape(len(SCALES), len(EXPONENTS), 64)
    found = {f"steepest, q = {q:g}": theta[:, i] for i, q in enumerate(EXPONENTS)}
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    optimizers = {
        "Adam": optax.adam(1e-3),
        "SAM, radius 0.05": optax.contrib.sam(optax.sgd(0.02), ascent, opaque_mode=True),
    }
    for name, optimizer in optimizers.items():
        runs = [
            ddln.descend(
                start, loss, optimizer, 20_000, dual=False, event=ddln.LossBelow(level)
            )
            for start in starts
        ]  # fmt: skip
        met = [run.result == ddln.RESULTS.event_occurred for run in runs]
        found[name] = np.stack(
            [np.where(m, r.theta[-1], np.nan) for m, r in zip(met, runs, strict=True)]
        )
    return found


def end_rows():
    """The table of ends."""
    loss, held_out = regression()
    least = [
        np.abs(ddln.minimum_l1(loss.X, loss.y)).sum(),
        np.linalg.norm(ddln.minimum_l2(loss.X, loss.y)),
    ]
    lines = [
        "| optimizer | depth | scale | l1 | l2 | largest entry | effective sparsity | held-out error |"
    ]
    lines.append("| " + "--- | " * 8)
    for depth in (2, 3):
        for name, thetas in ends(depth, loss).items():
            for scale, theta in zip(SCALES, thetas, strict=True):
                numbers = (
                    np.abs(theta).sum() / least[0], np.linalg.norm(theta) / least[1],
                    np.abs(theta).max(), float(ddln.effective_sparsity(theta)), held_out(theta),
                )  # fmt: skip
                lines.append(
                    f"| {name} | {depth} | {scale:g} | "
                    + " | ".join("never" if np.isnan(x) else f"{x:.3g}" for x in numbers)
                    + " |"
                )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def page_with(marks, table):
    """The page with a table between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(marks[0])
    return f"{before}{marks[0]}\n{table}\n{marks[1]}{rest.split(marks[1])[1]}"


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    for marks, rows in ((MARGINS, margin_rows), (ENDS, end_rows)):
        PAGE.write_text(page_with(marks, rows()), encoding="utf-8")
