"""Writes the list of claims into docs/reproduce.md: `python tests/claims/claims_table.py`."""

from pathlib import Path

from ddln.claims import claims, literature_claims

PAGE = Path(__file__).parents[2] / "docs" / "reproduce.md"
BEGIN, END = "<!-- claims -->\n", "<!-- end of claims -->\n"


def rows():
    """The list as it must stand on the page."""
    head = ["| claim | place | | expected |", "| --- | --- | --- | --- |"]
    every = (*claims(), *literature_claims())
    lines = [f"| `{c.id}` | {c.number} | {c.title} | {c.expected} |" for c in every]
    return "\n".join([*head, *lines]) + "\n"


def page_with(table):
    """The page with this list."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(rows()), encoding="utf-8")
