"""The tables at the end of a run."""

from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from ddln.cli._experiment import UNCONVERGED, Experiment, Outcome
from ddln.cli._flows import STATUSES
from ddln.theory import Check

STYLES = {
    "holds": "green",
    "inconclusive": "yellow",
    "hypothesis not met": "dim",
    "violated": "red",
}


def depth_row(outcome: Outcome, experiment: Experiment) -> dict[str, Any]:
    """The results of the flows of one depth, as plain numbers."""
    okay, scales = outcome.result.okay, experiment.scales
    shape = (-1, len(scales))
    unconverged = outcome.unconverged
    row: dict[str, Any] = {
        "depth": outcome.depth,
        "flows": len(okay),
        "failed": {why: len(where) for why, where in outcome.result.failures().items()},
        "unconverged": int(unconverged.sum()),
        "steps": _number(np.median, outcome.result.stats["num_steps"][okay]),
        "unexplained": _number(np.median, outcome.unexplained[okay]),
        "unexplained_most": _number(np.max, outcome.unexplained[okay]),
    }
    sparsity = outcome.sparsity.reshape(shape)
    for name, column in (("smallest", 0), ("largest", -1)):
        row[f"sparsity_{name}_scale"] = _number(np.median, sparsity[:, column])
        row[f"unconverged_{name}_scale"] = int(unconverged.reshape(shape)[:, column].sum())
    best = outcome.best_errors(experiment.split)
    if best is not None:
        median = [_number(np.median, column) for column in best.reshape(shape).T]
        finite = [np.inf if value is None else value for value in median]
        row["held_out_error"] = median[int(np.argmin(finite))]
        row["held_out_error_scale"] = float(scales[int(np.argmin(finite))])
    return row


def depth_table(rows: list[dict[str, Any]]) -> Table:
    """The results by depth."""
    held_out = "held_out_error" in rows[0]
    table = _table("What each depth reached (medians)")
    columns = ["depth", "failed", "not\ncon-\nverged", "steps", "unex-\nplained", "sparsity"]
    for column in columns + ["held-out\nerror"] * held_out:
        table.add_column(column, justify="right")
    for row in rows:
        sparsity = [
            _text(row[f"sparsity_{name}_scale"], ".1f")
            + "*" * bool(row[f"unconverged_{name}_scale"])
            for name in ("smallest", "largest")
        ]
        cells = [
            str(row["depth"]),
            str(sum(row["failed"].values())),
            Text(str(row["unconverged"]), "yellow" if row["unconverged"] else ""),
            _text(row["steps"], ".0f"),
            _text(row["unexplained"], ".1e"),
            "\nto ".join(sparsity),
        ]
        if held_out:
            error, scale = _text(row["held_out_error"], ".3f"), row["held_out_error_scale"]
            cells.append(f"{error}\nat {scale:.2g}")
        table.add_row(*cells)
    reasons = {why for row in rows for why in row["failed"]}
    table.caption = "\n".join(
        [
            "unexplained: training error over that of theta = 0; effective sparsity "
            "|theta|_1^2 / |theta|_2^2 at the end, smallest to largest scale"
            + (
                "; held-out error over that of the training mean, at the best time and scale"
                if held_out
                else ""
            ),
            *_unconverged(rows),
            *(f"failed: {why}" for why in sorted(reasons)),
        ]
    )
    return table


def _unconverged(rows: list[dict[str, Any]]) -> list[str]:
    """The line on flows that had not converged, if there are any."""
    if not any(row["unconverged"] for row in rows):
        return []
    most = max(row["unexplained_most"] for row in rows if row["unconverged"])
    return [
        f"not converged: more than {UNCONVERGED:g} above the least training error at t1 (the most: "
        f"{most:.2g} unexplained), so that the ends marked * are not those of the flow; a larger --t1 "
        "leads further"
    ]


def _table(title: str) -> Table:
    # Without a gap at the edges and a second one between columns it fits 60 letters.
    look = {"box": box.SIMPLE_HEAD, "pad_edge": False, "collapse_padding": True}
    table = Table(title=title, title_justify="left", **look)
    table.caption_justify = "left"
    return table


def check_rows(outcomes: list[Outcome], checks: dict[str, Check]) -> list[dict[str, Any]]:
    """Number of flows with each status, for each check."""
    rows = []
    for name, check in checks.items():
        codes = np.concatenate(
            [outcome.statuses[name][outcome.result.okay] for outcome in outcomes]
        )
        counts = {status: int(np.sum(codes == i)) for i, status in enumerate(STATUSES)}
        rows.append({"name": name, "source": check.source, "statement": check.statement, **counts})
    return rows


def check_table(rows: list[dict[str, Any]]) -> Table:
    """The outcomes of the checks, each below its statement's name with its source."""
    table = _table("What was checked along every flow")
    table.add_column("statement")
    for status in STATUSES:
        table.add_column(status.replace("hypothesis ", "hypothesis\n"), justify="right")
    for row in rows:
        counts = [
            Text(str(row[status]), STYLES[status] if row[status] else "dim") for status in STATUSES
        ]
        name = row["name"].replace("_", " ")
        table.add_row(Text.assemble(name, "\n", (row["source"], "dim")), *counts)
    return table


def _number(statistic, values: np.ndarray) -> float | None:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(statistic(values)) if values.size else None


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
