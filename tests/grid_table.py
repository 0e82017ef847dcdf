"""Writes the grid of dynamics and facilities into docs/grid.md: `python tests/grid_table.py`."""

from pathlib import Path

from grid import DYNAMICS, FACILITIES, REFUSED

PAGE = Path(__file__).parents[1] / "docs" / "grid.md"
BEGIN, END = "<!-- grid -->\n", "<!-- end of grid -->\n"


def rows():
    """The table as it must stand on the page: a facility a row."""
    lines = [
        "|  | " + " | ".join(kind.label for kind in DYNAMICS.values()) + " |",
        "| --- |" + " :-: |" * len(DYNAMICS),
    ]
    for facility, label in FACILITIES.items():
        cells = ("no" if (name, facility) in REFUSED else "yes" for name in DYNAMICS)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def page_with(table):
    """The page with this table."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(rows()), encoding="utf-8")
