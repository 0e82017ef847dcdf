"""Writes the tables of docs/theory/other-optimizers.md: `python tests/flows/optimizers_table.py`."""

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


def directions(depth, exponents, times):
    """theta of normalized flows, shape [exponents, times, 4]."""
    start = ddln.DeepDiagonal(jnp.asarray(np.random.default_rng(2).uniform(0.2, 1.0, (depth, 4))))

    @jax.jit
    @jax.vmap
    def path(exponent):
        flow = ddln.steepest_flow(
            start, soft_margin, times[-1], exponent=exponent, normalized=True, ts=times,
            width=jnp.where(exponent == 1, 1e-2, 1e-6), rtol=1e-8, throw=False,
        )  # fmt: skip
        return flow.theta, ddln.is_okay(flow.result)

    theta, okay = path(jnp.asarray(exponents))
    assert np.all(okay)
    return np.asarray(theta)


def largest_margin(power):
    """max min_i <x_i, theta> / |theta|_r for the norm of the power r, at least 1."""
    theta = cp.Variable(ROWS.shape[1])
    norm = cp.norm(theta, "inf" if np.isinf(power) else power)
    cp.Problem(cp.Minimize(norm), [ROWS @ theta >= 1]).solve(solver=cp.CLARABEL)
    return 1 / norm.value


def margin_ratio(theta, exponent, depth):
    """The margin in the norm l_r over the largest one, r = p / L; NaN where r < 1 makes no norm."""
    power = np.inf if exponent == 1 else exponent / (exponent - 1) / depth
    if power < 1:
        return power, np.nan
    return power, np.min(ROWS @ theta) / np.linalg.norm(theta, power) / largest_margin(power)


def margin_rows():
    """The table of margins."""
    lines = ["| depth | q | norm of the weights | norm of theta | margin / largest | status |"]
    lines.append("| " + "--- | " * 6)
    for depth in (2, 3):
        found = directions(depth, EXPONENTS, [LONG])[:, -1]
        for exponent, theta in zip(EXPONENTS, found, strict=True):
            power, ratio = margin_ratio(theta, exponent, depth)
            p = "inf" if exponent == 1 else f"{exponent / (exponent - 1):g}"
            status = "not known: only stationary" if np.isnan(ratio) else "holds"
            number = "" if np.isnan(ratio) else f"{ratio:.4f}"
            lines.append(
                f"| {depth} | {exponent:g} | l_{p} | l_{power:.3g} | {number} | {status} |"
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
