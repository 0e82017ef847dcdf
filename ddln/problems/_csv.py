"""Comma-separated values."""

import csv
from pathlib import Path

import numpy as np

from ddln.problems._table import Table, require_columns


def read_csv(file: Path) -> Table:
    """Reads a UTF-8 CSV file: a line of column names, then rows of numbers. Skips blank lines."""
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
    require_columns(file, names)
    values = np.empty((len(rows), len(names)))
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
        for column, (name, cell) in enumerate(zip(names, record, strict=True)):
            number = _number(cell)
            if number is None:
                raise ValueError(
                    f"Argument `file` must hold numbers, but {file}, line {line}, column `{name}` "
                    f"is {cell!r}."
                )
            values[row, column] = number
    return Table(file, names, values, lines=[line for line, _ in rows])


def _number(cell: str) -> float | None:
    """The number in a cell, if it holds one."""
    try:
        # Python takes 1_000 for a number; in data it is a damaged cell.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
