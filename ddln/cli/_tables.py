"""The tables that a run ends with."""

from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from ddln.cli._data import Split
from ddln.cli._flows import STATUSES, Outcome
from ddln.limits import effective_sparsity
from ddln.theory import Check

STYLES = {
    "holds": "green",
    "inconclusive": "yellow",
    "hypothesis not met": "dim",
    "violated": "red",
}


def depth_row(outcome: Outcome, split: Split, scales: np.ndarray) -> dict[str, Any]:
    """What the flows of one depth reached, as plain numbers."""
    okay = outcome.result.okay
    shape = (-1, len(scales))
    row: dict[str, Any] = {
        "depth": outcome.depth,
        "flows": len(okay),
        "failed": {why: len(where) for why, where in outcome.result.failures().items()},
        "steps": _number(np.median, outcome.result.stats["num_steps"][okay]),
    }
    # y has norm 1, so that theta = 0 has the loss 1/2 and this is the share left unexplained.
    row["unexplained"] = _number(np.median, 2 * np.asarray(outcome.result.loss[okay, -1]))
    # Failed lanes are masked.
    sparsity = outcome.of_each(
        lambda theta: np.asarray(effective_sparsity(np.nan_to_num(theta[:, -1])))
    )
    sparsity = np.where(okay, sparsity, np.nan).reshape(shape)
    row["sparsity_smallest_scale"] = _number(np.median, sparsity[:, 0])
    row["sparsity_largest_scale"] = _number(np.median, sparsity[:, -1])
    if len(split.held_out_targets):
        best = best_errors(outcome, split).reshape(shape)
        median = [_number(np.median, column) for column in best.T]
        finite = [np.inf if value is None else value for value in median]
        row["held_out_error"] = median[int(np.argmin(finite))]
        row["held_out_error_scale"] = float(scales[int(np.argmin(finite))])
    return row


def best_errors(outcome: Outcome, split: Split) -> np.ndarray:
    """The smallest held-out error along each flow, NaN for flows that failed."""

    def best(theta: np.ndarray) -> np.ndarray:
        errors = split.error(theta)
        return np.where(np.isfinite(errors), errors, np.inf).min(axis=1)

    return np.where(outcome.result.okay, outcome.of_each(best), np.nan)


def depth_table(rows: list[dict[str, Any]]) -> Table:
    held_out = "held_out_error" in rows[0]
    table = Table(
        title="What each depth reached (medians)", box=box.SIMPLE_HEAD, title_justify="left"
    )
    for column in ("depth", "flows", "failed", "steps", "unexplained", "effective sparsity"):
        table.add_column(column, justify="right")
    if held_out:
        table.add_column("best held-out error", justify="right")
    for row in rows:
        sparsity = (row["sparsity_smallest_scale"], row["sparsity_largest_scale"])
        cells = [
            str(row["depth"]),
            str(row["flows"]),
            str(sum(row["failed"].values())),
            _text(row["steps"], ".0f"),
            _text(row["unexplained"], ".1e"),
            " to ".join(_text(value, ".1f") for value in sparsity),
        ]
        if held_out:
            error, scale = _text(row["held_out_error"], ".3f"), row["held_out_error_scale"]
            cells.append(f"{error} at scale {scale:.2g}")
        table.add_row(*cells)
    reasons = {why for row in rows for why in row["failed"]}
    table.caption = "\n".join(
        [
            "unexplained: training error over that of theta = 0; effective sparsity "
            "|theta|_1^2 / |theta|_2^2 at the end, smallest to largest scale"
            + ("; held-out error over that of the training mean, best time" if held_out else ""),
            *(f"failed: {why}" for why in sorted(reasons)),
        ]
    )
    table.caption_justify = "left"
    return table


def check_rows(outcomes: list[Outcome], checks: dict[str, Check]) -> list[dict[str, Any]]:
    """How many flows have each status, for each check."""
    rows = []
    for name, check in checks.items():
        codes = np.concatenate(
            [outcome.statuses[name][outcome.result.okay] for outcome in outcomes]
        )
        counts = {status: int(np.sum(codes == i)) for i, status in enumerate(STATUSES)}
        rows.append({"name": name, "source": check.source, "statement": check.statement, **counts})
    return rows


def check_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        title="What was checked along every flow", box=box.SIMPLE_HEAD, title_justify="left"
    )
    table.add_column("statement")
    table.add_column("source", overflow="fold")
    for status in STATUSES:
        table.add_column(status, justify="right")
    for row in rows:
        cells = [
            f"[{STYLES[status]}]{row[status]}[/]" if row[status] else "[dim]0[/]"
            for status in STATUSES
        ]
        table.add_row(row["name"].replace("_", " "), row["source"], *cells)
    return table


def _number(statistic, values: np.ndarray) -> float | None:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(statistic(values)) if values.size else None


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
