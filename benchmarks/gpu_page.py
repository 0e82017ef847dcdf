"""The section "GPU" of the performance page, from what `python -m benchmarks.gpu` wrote on cards."""

import fnmatch
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.markdown import Target, number, table, table_of_wanted

FOLDER = Path(__file__).parent
# A card each, named by hand: `python -m benchmarks.gpu --out benchmarks/gpu-h100.json`.
CARDS = "gpu-*.json"
NOT_YET = (
    "Not measured yet: no card has run this package. [On a GPU](on-a-gpu.md) has what the "
    "compilers say of its programs, and estimates that are marked as such."
)

Row = dict[str, Any]
# Of each row: the fields that there must be, and those that there may be.
NEEDED: dict[str, type] = {"case": str, "seconds": float}
OPTIONAL: dict[str, type] = {
    "lanes": int,
    "compile_seconds": float,
    "lanes_per_second": float,
    "peak_gib": float,
    "failed": int,
    "error": float,
    "bytes_per_second": float,
    "flop_per_second": float,
}


def read(file: Path) -> dict[str, Any]:
    """The results of a card.

    Raises:
        ValueError: if they are not of the form that `benchmarks.gpu` writes; it names the field.
    """
    found = json.loads(file.read_text())
    if set(found) != {"machine", "rows", "failed"}:
        raise ValueError(f"{file.name} must have `machine`, `rows` and `failed`, not {set(found)}.")
    for row in found["rows"]:
        for name in NEEDED.keys() | row.keys():
            kind = NEEDED.get(name) or OPTIONAL.get(name)
            if kind is None or not isinstance(row.get(name), kind):
                raise ValueError(f"{file.name}: `{name}` of {row.get('case')!r} is not as wanted.")
    return found


def _rate(case: str, lanes: int | None = None) -> Callable[[list[Row]], float]:
    """The largest number of lanes a second among rows of this name, which may end in a star."""
    return lambda rows: max(
        row["lanes_per_second"]
        for row in rows
        if fnmatch.fnmatchcase(row["case"], case) and lanes in (None, row["lanes"])
    )


def _seconds(case: str, lanes: int) -> Callable[[list[Row]], float]:
    return lambda rows: lanes / _rate(case, lanes)(rows)


def _over(case: str, baseline: str) -> Callable[[list[Row]], float]:
    return lambda rows: _rate(case)(rows) / _rate(baseline)(rows)


# What is wanted of one H100.
TARGETS = [
    Target("100000 flows: seconds", _seconds("flows", 100_000), 2.5),
    Target("1000000 flows: seconds", _seconds("flows", 1_000_000), 20),
    Target("100000 flows in float32: seconds", _seconds("flows, float32*", 100_000), 1.5),
    Target("100000 limits: seconds", _seconds("limits", 100_000), 1),
    *(
        Target(
            f"flows a second over `vmap` of diffrax {solver}",
            _over("flows to t*", f"vmap of diffrax {solver}*"),
            100,
            True,
        )
        for solver in ("Tsit5", "Kvaerno5")
    ),
    Target(
        "flows a second over all cores of the host", _over("flows", "flows on the host*"), 50, True
    ),
]


def card(found: dict[str, Any]) -> str:
    """The tables of one card."""
    machine, rows = found["machine"], found["rows"]
    fields = ["lanes", "seconds", "lanes_per_second", "error", "failed", "peak_gib"]
    timed = [
        [row["case"], *(number(row.get(field)) for field in [*fields, "compile_seconds"])]
        for row in rows
    ]
    header = ["", "lanes", "seconds", "lanes/s", "error", "failed", "memory, GiB", "compile, s"]
    facts = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "card")
    parts = [f"### {machine['card']}", facts]
    parts += [table_of_wanted(TARGETS, rows), table(header, timed)]
    if found["failed"]:
        failed = (f"{name} ({why})" for name, why in found["failed"].items())
        parts.append("**Parts that failed:** " + "; ".join(failed))
    return "\n\n".join(parts)


def section(folder: Path = FOLDER) -> str:
    """The section: the tables of each card, or that there is none yet."""
    files = sorted(folder.glob(CARDS))
    return "\n\n".join(card(read(file)) for file in files) if files else NOT_YET
