"""Values separated by commas, semicolons, tabs, bars or spaces."""

import csv
import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddln.problems._table import MISSING, Columns, kept_columns, number

SEPARATORS = (",", ";", "\t", "|")


def read_csv(file: Path, drop: Sequence[str], missing: str) -> Columns:
    """Read a UTF-8 CSV file: a line of column names, then rows. Blank lines are skipped, and so are notes
    that begin with # before the names.

    The names tell the separator. Where it is no comma and no space, commas are decimal points. True and
    False count as 1 and 0. A first column without a name that counts the rows is an index, and no data; so
    are names of rows, for which R writes no column name.
    """
    try:
        with _opened(file) as stream:
            lines, before = _without_notes(stream.readlines())
        first = next((line for line in lines if line.strip()), "")
        separator = _separator(first)
        spaced = separator == " "
        rows = (" ".join(line.split()) for line in lines) if spaced else lines
        reader = csv.reader(rows, delimiter=separator)
        records = [(before + reader.line_num, record) for record in reader if record]
    except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(
            f"Argument `file` must be comma-separated text in UTF-8, but {file} is not: {error}."
        ) from None
    if not records:
        raise ValueError(
            f"Argument `file` must start with a line of column names, but {file} is empty."
        )
    (header_line, header), *rows = records
    names = tuple(_unquoted(name.strip()) for name in header)
    if all(number(name) is not None for name in names):
        raise ValueError(
            f"Argument `file` must start with a line of column names, but {file}, line "
            f"{header_line}, holds only numbers. Add the names."
        )
    # As scikit-learn ships its tables: the number of rows, that of features, and the names of classes.
    if names[:2] == (str(len(rows)), str(len(rows[0][1]) - 1) if rows else ""):
        raise ValueError(
            f"Argument `file` must start with a line of column names, but {file}, line "
            f"{header_line}, counts rows and columns. Put the names there."
        )
    if _has_row_names([record for _, record in rows], len(names)):
        rows = [(line, record[1:]) for line, record in rows]
    for line, record in rows:
        if len(record) != len(names):
            short = len(record) < len(names)
            end = "ends before" if short else "goes on after"
            raise ValueError(
                f"Argument `file` must have {len(names)} cells in every row, but {file}, "
                f"line {line}, {end} column `{names[len(record)] if short else names[-1]}`."
            )
    if names[0] == "" and _counts([record[0] for _, record in rows]):
        names, rows = names[1:], [(line, record[1:]) for line, record in rows]
    if "" in names:
        raise ValueError(
            f"Argument `file` must name every column, but {file}, line {header_line}, column "
            f"{names.index('') + 1} has no name. If it is an index of rows, remove it."
        )
    kept = kept_columns(file, names, drop)
    decimal = "." if separator in ", " else ","
    columns = [_column([record[place] for _, record in rows], decimal, missing) for place in kept]
    return Columns(file, tuple(names[c] for c in kept), tuple(columns), [line for line, _ in rows])


def _separator(line: str) -> str:
    """The separator that makes the most cells; spaces separate where nothing else does."""
    best = max(SEPARATORS, key=lambda s: len(next(csv.reader([line], delimiter=s), [])))
    return best if best in line else " "


def _without_notes(lines: list[str]) -> tuple[list[str], int]:
    """The lines from the column names on, and the number of lines before.

    Lines that begin with # are notes, but for the last one if it has as many cells as the line after it: that
    is how `numpy.savetxt` writes names.
    """
    begin = next((i for i, line in enumerate(lines) if line.strip() and line[0] != "#"), 0)
    notes = [i for i in range(begin) if lines[i].strip()]
    if not notes:
        return lines, 0
    separator = _separator(lines[begin])

    def cells(line: str) -> list[str]:
        return line.split() if separator == " " else next(csv.reader([line], delimiter=separator))

    names, row = re.sub(r"^#\s+", "", lines[notes[-1]]), cells(lines[begin])
    # A sentence has words as a line of names has; names stand above numbers.
    is_named = separator != " " or all(number(cell) is not None for cell in row)
    if is_named and len(cells(names)) == len(row):
        return [names, *lines[notes[-1] + 1 :]], notes[-1]
    return lines[begin:], begin


def _unquoted(name: str) -> str:
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] == "'" else name


def _opened(file: Path) -> Any:
    # utf-8-sig drops the byte order mark that spreadsheets write.
    opened = gzip.open if file.suffix == ".gz" else open
    return opened(file, "rt", encoding="utf-8-sig", newline="")


def _counts(cells: list[str]) -> bool:
    """True if the cells number the rows, from 0 or 1."""
    return any(cells == [str(start + row) for row in range(len(cells))] for start in (0, 1))


def _has_row_names(records: list[list[str]], columns: int) -> bool:
    """True if rows have a cell more, their names or numbers first, and not a separator at the end."""
    if not records or any(len(record) != columns + 1 for record in records):
        return False
    first = [record[0] for record in records]
    named = len(set(first)) == len(first) and all(number(cell) is None for cell in first)
    return (named or _counts(first)) and any(record[-1].strip() for record in records)


def _column(cells: list[str], decimal: str, missing: str) -> np.ndarray:
    """The numbers of a column, or its texts if a cell has none."""
    absent = [missing != "error" and cell.strip().lower() in MISSING for cell in cells]
    numbers = [
        np.nan if gap else number(cell, decimal) for cell, gap in zip(cells, absent, strict=True)
    ]
    if None not in numbers:
        return np.asarray(numbers, float)
    texts = [None if gap else cell for cell, gap in zip(cells, absent, strict=True)]
    return np.asarray([*texts, None], object)[:-1]
