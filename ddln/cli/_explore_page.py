"""The page of a sweep: one HTML file that needs nothing else, to point at."""

import base64
import hashlib
import html
import json
import string
from importlib.resources import files
from typing import Any

import numpy as np

from ddln.cli._experiment import UNCONVERGED
from ddln.cli._flows import STATUSES
from ddln.cli._lane_samples import sample_lanes
from ddln.cli._lane_table import LABELS, LaneTable, Source
from ddln.cli._map_cells import MapCells
from ddln.sweeps.store import decoded

# Labels that are listed one by one.
FEW = 4
# Words for `LaneTable.outcomes`, where convergence is known and where it is not; none for the code between.
OUTCOMES = ("converged", "not converged", None, "failed")
OUTCOMES_ALONE = ("did not fail", None, None, "failed")
SCRIPTS = ("charts.js", "map.js", "page.js")


def explore_page(source: Source) -> str:
    """The page as text. Lanes are read a chunk at a time."""
    header = source.opened.header
    labels = {
        dim: np.asarray(source.data[dim] if dim in source.data.coords else np.arange(size))
        for dim, size in zip(header.dims, source.opened.grid.sizes, strict=True)
    }
    cells = MapCells(header.dims, source.opened.grid.sizes, labels)
    table = source.table()
    attrs = decoded(source.data.attrs)
    payload = {
        "rows": {"name": cells.rows.name, "labels": cells.rows.texts()},
        "columns": {"name": cells.columns.name, "labels": cells.columns.texts()},
        "times": None if table.times is None else [_finite(time) for time in table.times],
        "saves": len(table.rows),
        "planes": [_plane(name, chosen, cells, table) for name, chosen in cells.planes],
        "quantities": [*_numbers(table), *_statuses(table)],
        "statuses": STATUSES,
        "samples": sample_lanes(source, table, cells),
        "features": attrs.get("features", []),
        "threshold": UNCONVERGED,
    }
    name = str(attrs.get("data", "a sweep"))
    style, template = _part("style.css"), _part("template.html")
    script = "\n".join(map(_part, SCRIPTS))
    # No text of the data ends the element that it stands in.
    data = json.dumps(payload, allow_nan=False).replace("<", "\\u003c")
    return string.Template(template).substitute(
        title=html.escape(f"Sweep: {name}"),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=data,
        facts=_facts(source, table, cells),
        notes="".join(f"<p>{html.escape(note)}</p>" for note in _notes(source, table, cells)),
    )


def _numbers(table: LaneTable) -> list[dict[str, Any]]:
    """The quantities of a map that are numbers, by label; those that say most come first."""
    first = [label for label in table.numbers if label.endswith(" solution")]
    first += [label for label in table.numbers if label == "effective sparsity"]
    rest = [label for label in table.numbers if label not in first and label != LABELS["steps"]]
    order = [*first, *rest, LABELS["steps"]]
    return [
        {"label": label, "kind": "number", "over_time": table.numbers[label].ndim == 2}
        for label in order
        if label in table.numbers
    ]


def _statuses(table: LaneTable) -> list[dict[str, Any]]:
    """The quantities of a map that are words: what became of the flow, then the checks."""
    checks = [{"label": f"check: {name}", "words": STATUSES} for name in table.statuses]
    words = OUTCOMES if table.unconverged is not None else OUTCOMES_ALONE
    return [one | {"kind": "status"} for one in [{"label": "status", "words": words}, *checks]]


def _plane(name: str, chosen: np.ndarray, cells: MapCells, table: LaneTable) -> dict[str, Any]:
    """One map: the value of each quantity in each cell, and how many lanes it sums up."""
    values = [cells.median(table.numbers[q["label"]], chosen) for q in _numbers(table)]
    codes = [table.outcomes, *table.statuses.values()]
    worst = [cells.worst(one, chosen) for one in codes]
    unconverged = table.unconverged
    return {
        "name": name,
        "values": [_base64(array) for array in [*values, *worst]],
        "lanes": cells.counts(np.ones_like(chosen), chosen).tolist(),
        "failed": cells.counts(table.failed, chosen).tolist(),
        "missing": cells.counts(table.missing, chosen).tolist(),
        "unconverged": (
            None if unconverged is None else _base64(cells.counts(unconverged, chosen))
        ),
    }


def _facts(source: Source, table: LaneTable, cells: MapCells) -> str:
    """The data, the settings and the counts of a sweep, as the entries of a list."""
    facts: dict[str, str] = {}
    experiment = source.experiment
    if experiment is not None:
        n, d = experiment.split.X.shape
        options = experiment.options
        facts |= {
            "n": f"{n} samples",
            "d": f"{d} features",
            "held out": f"{len(experiment.split.held_out_targets)} samples",
            "t1": f"{experiment.t1:g}",
            "tolerances": f"{options.rtol:g}, {options.atol:g}",
            "precision": options.precision,
            "seed": str(options.seed),
        }
    for dim, size in zip(cells.dims, cells.sizes, strict=True):
        digits = ".4g" if cells.labels[dim].dtype.kind == "f" else "d"
        values = [format(label, digits) for label in cells.labels[dim]]
        few = size <= FEW
        facts[dim] = ", ".join(values) if few else f"{size}, from {values[0]} to {values[-1]}"
    facts["flows"] = str(len(table.codes))
    facts["failed"] = str(int(table.failed.sum()))
    if table.unconverged is not None:
        facts["not converged"] = str(int(table.unconverged[:, -1].sum()))
    facts["missing"] = str(int(table.missing.sum()))
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>"
        for name, text in facts.items()
    )


def _notes(source: Source, table: LaneTable, cells: MapCells) -> list[str]:
    """Remarks without which a reader would be misled."""
    notes = []
    if table.unconverged is not None:
        notes.append(
            f"Not converged: the training error, in units of that of theta = 0, is still more than "
            f"{UNCONVERGED:g} above the least one. Such a flow is not at its end: its distances and its "
            "sparsity are those of a point on the way."
        )
    if source.experiment is None:
        notes.append(
            "The data of this sweep is not at hand. So the page has no distances to the l1 and l2 "
            "solutions, no layers and no bound of the loss, and does not know which flows have converged."
        )
    if cells.count < len(table.codes):
        notes.append(
            "Where a cell stands for several flows it has the median of those that did not fail, and the "
            "worst outcome of a check."
        )
    every = source.data.sizes["save"]
    if len(table.rows) < every:
        notes.append(f"{len(table.rows)} of the {every} saved times are shown.")
    return notes


def _part(name: str) -> str:
    return (files("ddln.cli") / "explore" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The hash by which a content security policy names a script or a style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
