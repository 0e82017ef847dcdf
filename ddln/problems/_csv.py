"""Comma-separated values."""

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddln.problems._table import Table, kept_columns

# Cells of a column of booleans, as pandas, R and spreadsheets write them.
BOOLEANS = {"true": 1.0, "false": 0.0}
# Columns of which an error names the cells.
SHOWN = 10


def read_csv(file: Path, drop: Sequence[str]) -> Table:
    """Read a UTF-8 CSV file: a line of column names, then rows of numbers. Blank lines are skipped.

    True and False count as 1 and 0.
    """
    try:
        # utf-8-sig drops the byte order mark that spreadsheets write.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            records = [(reader.line_num, record) for record in reader if record]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"Argument `file` must be comma-separated text in UTF-8, but {file} is not: {error}."
        ) from None
    if not records:
        raise ValueError(
            f"Argument `file` must start with a line of column names, but {file} is empty."
        )
    (header_line, header), *rows = records
    names = tuple(name.strip() for name in header)
    if all(_number(name) is not None for name in names):
        raise ValueError(
            f"Argument `file` must start with a line of column names, but {file}, line "
            f"{header_line}, holds only numbers. Add the names."
        )
    if "" in names:
        raise ValueError(
            f"Argument `file` must name every column, but {file}, line {header_line}, column "
            f"{names.index('') + 1} has no name. If it is an index of rows, remove it."
        )
    kept = kept_columns(file, names, drop)
    values = np.empty((len(rows), len(kept)))
    wrong: dict[str, list[tuple[int, str]]] = {}
    for row, (line, record) in enumerate(rows):
        if len(record) < len(names):
            raise ValueError(
                f"Argument `file` must have {len(names)} cells in every row, but {file}, "
                f"line {line}, ends before column `{names[len(record)]}`."
            )
        if len(record) > len(names):
            raise ValueError(
                f"Argument `file` must have {len(names)} cells in every row, but {file}, "
                f"line {line}, goes on after column `{names[-1]}`."
            )
        for place, column in enumerate(kept):
            cell = record[column]
            number = BOOLEANS.get(cell.strip().lower(), _number(cell))
            if number is None:
                wrong.setdefault(names[column], []).append((line, cell))
            else:
                values[row, place] = number
    if wrong:
        raise ValueError(_no_numbers(file, wrong))
    return Table(file, tuple(names[column] for column in kept), values, [line for line, _ in rows])


def _no_numbers(file: Path, wrong: dict[str, list[tuple[int, str]]]) -> str:
    """The message on all cells that hold no number: (line, cell) by column."""
    name, ((line, cell), *_) = next(iter(wrong.items()))
    text = (
        f"Argument `file` must hold numbers, but {file}, line {line}, column `{name}` is {cell!r}."
    )
    if len(wrong) > 1 or len(wrong[name]) > 1:
        text += " Cells without a number, by column:"
        for name, cells in list(wrong.items())[:SHOWN]:
            empty = sum(not cell.strip() for _, cell in cells)
            line, cell = next(((n, c) for n, c in cells if c.strip()), cells[0])
            text += f"\n  `{name}`: {len(cells)}"
            text += (
                f", {empty} of them empty"
                if 0 < empty < len(cells)
                else ", all empty"
                if empty
                else ""
            )
            text += f", {cell!r} in line {line}" if cell.strip() else f", in line {line}"
        text += f"\n  and {len(wrong) - SHOWN} more columns" if len(wrong) > SHOWN else ""
    return (
        f"{text}\nFill or remove empty cells, encode categories as numbers (`pandas.get_dummies`), or leave "
        f"columns out with `drop` (`--drop {shlex.join(wrong)}` on the command line)."
    )


def _number(cell: str) -> float | None:
    """The number in a cell, if it holds one."""
    try:
        # Python takes 1_000 for a number; in data it is a damaged cell.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
