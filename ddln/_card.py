"""Small cards of results for notebooks: shapes, outcomes, steps, and a curve."""

import html
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ddln._results import RESULTS
from ddln._validation import is_known

WIDTH, HEIGHT = 160, 36
# Lanes whose losses are read: those of a store stay in it.
READ = 1024
# What a loss or a margin on a log scale has at least, in units of the largest one.
FLOOR = 1e-16


def card(title: str, rows: Mapping[str, Any], curve: Any = ()) -> str:
    """A card in HTML: a title, rows of a name and a value, and a curve without axes."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(_text(value))}</td></tr>"
        for name, value in rows.items()
    )
    return (
        f"<div><strong>{html.escape(title)}</strong>{_sparkline(curve)}<table>{cells}</table></div>"
    )


def flow_card(title: str, flow: Any) -> str | None:
    """The card of flows with `ts`, `loss`, `theta`, `result` and `stats`; None while they are traced."""
    if not readable(flow):
        return None
    lanes = flow.loss.shape[:-1]
    loss = np.asarray(flow.loss[:READ] if lanes else flow.loss, float).reshape(
        -1, flow.loss.shape[-1]
    )
    times = np.asarray(flow.ts[:READ] if lanes else flow.ts, float)
    reached = times[np.isfinite(times)]
    rows: dict[str, Any] = {"lanes": int(np.prod(lanes))} if lanes else {}
    if flow.theta is not None:
        rows["theta"] = flow.theta.shape
    if reached.size:
        rows["times"] = f"{flow.ts.shape[-1]}, from {reached.min():.4g} to {reached.max():.4g}"
    middle = [_median(row) for row in loss.T]
    rows["loss at the end" + " (median)" * bool(lanes)] = middle[-1]
    rows["steps" + " (median)" * bool(lanes)] = _median(flow.stats["num_steps"])
    rows["result"] = outcomes(flow.result)
    return card(title, rows | {"method": flow.method}, _logarithms(np.array(middle)))


def outcomes(result: RESULTS) -> str:
    """The messages of result codes, each with its number of lanes."""
    codes = Counter(np.asarray(jax.tree.leaves(result)[0]).ravel().tolist())
    structure = jax.tree.structure(RESULTS.successful)
    told = []
    for code, count in sorted(codes.items()):
        # A lane of a store that was not computed yet has the code -1.
        known = code >= 0
        text = (
            RESULTS[jax.tree.unflatten(structure, [np.asarray(code, np.int32)])]
            if known
            else "missing"
        )
        told.append(text if len(codes) == 1 else f"{count} {text}")
    return "; ".join(told)


def readable(tree: Any) -> bool:
    """True if no array in a tree is being traced."""
    return all(map(is_known, jax.tree.leaves(tree)))


def _median(values: Any) -> float:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else float("nan")


def _logarithms(values: np.ndarray) -> np.ndarray:
    largest = np.max(np.abs(values), initial=0, where=np.isfinite(values))
    if not largest > 0:
        return values
    return np.log10(np.maximum(values, FLOOR * largest))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sparkline(curve: Any) -> str:
    values = np.asarray(curve, float)
    known = np.flatnonzero(np.isfinite(values))
    if known.size < 2:
        return ""
    low, high = values[known].min(), values[known].max()
    x = 2 + (WIDTH - 4) * known / (values.size - 1)
    y = HEIGHT - 2 - (HEIGHT - 4) * (values[known] - low) / (high - low or 1)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' style='vertical-align:middle;margin-left:1em' "
        "role='img' aria-label='curve'><polyline fill='none' stroke='currentColor' "
        f"stroke-width='1.5' points='{points}'/></svg>"
    )
