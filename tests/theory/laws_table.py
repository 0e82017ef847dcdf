"""Writes the table of statements into docs/theory/checks.md: `python tests/theory/laws_table.py`."""

from pathlib import Path

from ddln.theory import LAWS

PAGE = Path(__file__).parents[2] / "docs" / "theory" / "checks.md"
BEGIN, END = "<!-- statements -->\n", "<!-- end of statements -->\n"


def asked_of(needs):
    """The flows for which `checks` evaluates a statement."""
    if needs is None:
        return ""
    names = [
        f"`{need.__name__}`" if isinstance(need, type) else need.__name__.replace("_", " ")
        for need in needs
    ]
    return ", ".join(names) or "every flow"


def rows():
    """The table as it must stand on the page."""
    head = ["| check | relation | entries | source | in `checks` for |", "| " + "--- | " * 5]
    lines = [
        f"| `{law.name}` | {law.relation.replace('<', '&lt;')} | {', '.join(law.axes)} "
        f"| {law.source.replace('|', '&#124;')} | {asked_of(law.needs)} |"
        for law in LAWS
    ]
    return "\n".join([head[0], head[1].rstrip(), *lines]) + "\n"


def page_with(table):
    """The page with this table."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(rows()), encoding="utf-8")
