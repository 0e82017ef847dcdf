"""MkDocs hook: `[@key]` and `[@key, eq. 4]`, in pages and docstrings, link to the bibliography.

The bibliography page is written from `references.bib`, which owns every reference. An unknown key,
or an entry that does not have the expected form, stops the build.
"""

import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.utils import get_relative_url

BIBLIOGRAPHY = "bibliography/"
FIELDS = {
    "author",
    "title",
    "year",
    "journal",
    "booktitle",
    "howpublished",
    "volume",
    "number",
    "pages",
    "eprint",
}


def read_bibliography(path: Path) -> dict[str, dict[str, str]]:
    """Entries by key: `@type{key,`, lines `  name = {value},`, `}`, and a blank line after it."""
    entries = {}
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        head, *body, last = block.splitlines()
        start = re.fullmatch(r"@(\w+)\{(\w+),", head)
        fields = [re.fullmatch(r"  (\w+) = \{(.+)\},", line) for line in body]
        if start is None or last != "}" or not all(fields):
            raise PluginError(f"{path.name}: this entry is not in the expected form:\n{block}")
        entry = {field[1]: field[2] for field in fields if field}
        if not {"author", "title", "year"} <= entry.keys() <= FIELDS or start[2] in entries:
            raise PluginError(f"{path.name}: missing, unknown or repeated names in:\n{block}")
        entries[start[2]] = entry
    return entries


def short_name(entry: dict[str, str]) -> str:
    """The first author, with a second one or "et al.", and the year."""
    names = [author.split(",")[0] for author in entry["author"].split(" and ")]
    few = len(names) < 3 and names[-1] != "others"
    who = " and ".join(names) if few else f"{names[0]} et al."
    return f"{who} {entry['year']}"


def reference(key: str, entry: dict[str, str]) -> str:
    """One line of the bibliography."""
    authors = [" ".join(reversed(author.split(", "))) for author in entry["author"].split(" and ")]
    who = authors[0] if len(authors) == 1 else f"{', '.join(authors[:-1])} and {authors[-1]}"
    where = entry.get("journal") or entry.get("booktitle") or entry.get("howpublished")
    if where is None:
        where = f"arXiv:{entry['eprint']}"
    if "volume" in entry:
        where += f" {entry['volume']}"
    if "number" in entry:
        where += f"({entry['number']})"
    if "pages" in entry:
        where += f", {entry['pages'].replace('--', '–')}"
    return f"- `{key}`{{ #{key} }} {who} ({entry['year']}). *{entry['title']}.* {where}."


def on_config(config):
    config.extra["bibliography"] = read_bibliography(
        Path(config.docs_dir).parent / "ddln" / "references.bib"
    )
    return config


def on_page_markdown(markdown, page, config, files):
    entries = config.extra["bibliography"].items()
    return markdown.replace("[[references]]", "\n".join(reference(*entry) for entry in entries))


def on_page_content(content, page, config, files):
    entries = config.extra["bibliography"]

    def link(match):
        key, place = match[1], match[2] or ""
        if key not in entries:
            raise PluginError(f"{page.file.src_uri}: `{key}` is not a key of references.bib")
        url = get_relative_url(BIBLIOGRAPHY, page.url)
        return f'<a href="{url}#{key}">{short_name(entries[key])}{place}</a>'

    return re.sub(r"\[@(\w+)((?:, [^\]]+)?)\]", link, content)
