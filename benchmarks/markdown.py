"""Tables of the pages that the benchmarks write."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Target(NamedTuple):
    """A number, and what it is to be: at least or at most a bound, if there is one."""

    what: str
    value: Callable[[Any], float]
    bound: float | None = None
    above: bool = False


def number(value: float | None) -> str:
    """Three digits, as short as they can be."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 1e-3 else f"{value:.1e}"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table_of_wanted(targets: Sequence[Target], results: Any) -> str:
    """Targets, what was measured, and whether it is as wanted."""
    rows = []
    for what, value, bound, above in targets:
        try:
            found = value(results)
        except (KeyError, ValueError, TypeError):
            rows.append([what, "", "not timed", ""])
            continue
        if bound is None:
            rows.append([what, "", number(found), ""])
            continue
        reached = found >= bound if above else found <= bound
        sign = "≥" if above else "≤"
        rows.append(
            [what, f"{sign} {number(bound)}", number(found), "yes" if reached else "**no**"]
        )
    return table(["", "wanted", "measured", "reached"], rows)
