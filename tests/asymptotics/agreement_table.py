"""Writes the table of docs/theory/how-good-the-end-is.md: `python tests/asymptotics/agreement_table.py`.

About nine minutes on two cores.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

import ddln
from ddln.asymptotics import simulate

# Before the signal is made.
jax.config.update("jax_enable_x64", True)

PAGE = Path(__file__).parents[2] / "docs" / "theory" / "how-good-the-end-is.md"
BEGIN, END = "<!-- agreement -->\n", "<!-- end of agreement -->\n"

SIGNAL = ddln.Signal.sparse(0.1)
DIM, RUNS = 2000, 20
# Depth, samples per coordinate, and pairs of scale and noise.
SETTINGS = [
    (2, 0.2, [(0.1, 0.0), (1.0, 0.0)]),
    (2, 0.35, [(0.3, 0.0), (0.3, 0.5)]),
    (3, 0.2, [(0.1, 0.0), (1.0, 0.0)]),
    (3, 0.35, [(0.5, 0.0), (0.5, 0.5)]),
    (4, 0.2, [(0.3, 0.0), (1.0, 0.0)]),
    (4, 0.35, [(0.8, 0.0), (0.8, 0.5)]),
]


def line(depth, scale, ratio, noise, value, mean, error):
    """A line of the table."""
    return (
        f"| {depth} | {scale} | {ratio} | {noise} | {value:.4f} | {mean:.4f} | {error:.4f} "
        f"| {(mean - value) / error:+.1f} |"
    )


def compared(depth, ratio, pairs):
    """The lines of a depth and a ratio."""

    def start(scale):
        return ddln.DeepDiagonal.zero_last(jnp.ones(1), depth, scale)

    @jax.jit
    def measured(key, scale, noise):
        runs = simulate(start(scale), SIGNAL, ratio, noise, dim=DIM, runs=RUNS, key=key)
        return runs.mean(runs.mse)

    @jax.jit
    @jax.vmap
    def predicted(scale, noise):
        return ddln.state_evolution(start(scale), SIGNAL, ratio, noise, throw=False).mse

    expected = predicted(*(jnp.asarray(column) for column in zip(*pairs, strict=True)))
    for number, ((scale, noise), value) in enumerate(zip(pairs, expected, strict=True)):
        key = jax.random.key(1000 * depth + round(100 * ratio) + number)
        row = line(depth, scale, ratio, noise, value, *measured(key, scale, noise))
        print(row, flush=True)
        yield row


def table_of_page():
    """The lines that stand on the page, without the head."""
    table = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    return table.strip().splitlines()[2:]


def rows():
    """The table as it must stand on the page."""
    head = "| depth | scale | n/d | noise | state evolution | simulated | standard error | difference |\n"
    lines = [row for setting in SETTINGS for row in compared(*setting)]
    return head + "| " + "--- | " * 7 + "--- |\n" + "\n".join(lines) + "\n"


def page_with(table):
    """The page with this table."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(rows()), encoding="utf-8")
