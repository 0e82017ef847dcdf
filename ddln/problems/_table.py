"""Tables of numbers, the common form of all data."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Cells that stand for a missing value, in lower case.
MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
# Columns of which an error names the cells.
SHOWN = 10
# Texts of one column that are taken for categories, at most.
MOST_CATEGORIES = 50

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
YEAR_FIRST = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[ T](.+))?")
NAMED_MONTH = re.compile(r"(?:(\d{1,2})[ -])?([A-Za-z]{3,9})[ -](?:(\d{1,2}),?[ -])?(\d{4})")


@dataclass(frozen=True)
class Columns:
    """Columns as they were found: numbers, or texts where a cell holds no number.

    Attributes:
        source: the place that they are from, for messages.
        names: their names.
        columns: float64 with NaN for missing values, datetime64, or objects: str, or None where missing.
        lines: the line of the file, from 1, on which each row stands; if None the source has no lines
            and rows are counted from 1.
    """

    source: Any
    names: tuple[str, ...]
    columns: tuple[np.ndarray, ...]
    lines: Sequence[int] | None = None

    def table(self, encode: bool, missing: str, target: int) -> "Table":
        """The numbers, without missing values.

        Args:
            encode: whether texts become indicators of their values and dates become days.
            missing: "error", "drop" (rows) or "mean" (of the column).
            target: the position of the target, whose two texts become -1 and 1.
        """
        names: list[str] = []
        values: list[np.ndarray] = []
        if not encode:
            self._require_numbers()
        for place, (name, column) in enumerate(zip(self.names, self.columns, strict=True)):
            for label, part in self._numbers(name, column, place == target):
                names.append(label)
                values.append(part)
        label = _renamed(self.names[target], names)
        matrix = np.stack(values, axis=1) if values else np.empty((0, 0))
        rows, lines = np.arange(len(matrix)), self.lines
        absent = np.isnan(matrix)
        if missing == "drop":
            rows = np.flatnonzero(~absent.any(axis=1))
        elif missing == "mean":
            # The mean of a target would be a made-up observation.
            rows = np.flatnonzero(~absent[:, names.index(label)])
            matrix = _mean_filled(self.source, names, matrix, rows)
        if len(rows) < len(matrix):
            matrix = matrix[rows]
            lines = None if lines is None else [lines[int(row)] for row in rows]
        return Table(self.source, tuple(names), matrix, lines, rows, names.index(label))

    def _numbers(
        self, name: str, column: np.ndarray, is_target: bool
    ) -> list[tuple[str, np.ndarray]]:
        """The columns of numbers that stand for one column, with their names."""
        if column.dtype.kind == "f":
            return [(name, column)]
        dates = _days(column)
        if dates is not None:
            return [(name, dates)]
        known = np.asarray([cell is not None for cell in column])
        levels = sorted(set(column[known].tolist()))
        if is_target and len(levels) != 2:
            raise ValueError(
                f"Argument `target` must be a column of numbers, or of two texts, but in {self.source} "
                f"column `{name}` has {len(levels)} texts. Choose another one."
            )
        if is_target:
            labels = np.where(column == levels[1], 1.0, -1.0)
            return [(f"{name}={levels[1]}", np.where(known, labels, np.nan))]
        if len(levels) > MOST_CATEGORIES:
            raise ValueError(
                f"Argument `encode` makes a column for each text, but in {self.source} column `{name}` "
                f"has {len(levels)} different ones, such as {levels[0]!r}. Leave it out with `drop`. (Dates "
                "must be written as 2000-01-31, 2000/1/31 or Jan 31 2000.)"
            )
        return [
            (f"{name}={level}", np.where(known, (column == level).astype(float), np.nan))
            for level in levels
        ]

    def _require_numbers(self) -> None:
        wrong = {
            name: column
            for name, column in zip(self.names, self.columns, strict=True)
            if column.dtype.kind != "f"
        }
        if not wrong:
            return
        name, column = next(iter(wrong.items()))
        if self.lines is None:
            kind = "dates" if column.dtype.kind == "M" else f"texts such as {_first(column)[1]!r}"
            text = (
                f"Argument `file` must hold numbers, but {self.source}, column `{name}` has {kind}."
            )
        else:
            text = _wrong_cells(self, wrong)
        raise ValueError(
            f"{text}\nFill or remove empty cells (or pass `missing='drop'` or `'mean'`), pass `encode=True` "
            "to turn texts into indicators and dates into days, or leave columns out with `drop` "
            f"(--missing, --encode and --drop {shlex.join(wrong)} on the command line)."
        )


@dataclass(frozen=True)
class Table:
    """Numbers under column names, and their places in the source.

    Attributes:
        source: the place that they are from, for messages.
        names: the names of the columns.
        values: float64, shape [rows, columns].
        lines: as in `Columns`.
        rows: the numbers of the rows in the source, from 0.
        target: the position of the target.
    """

    source: Any
    names: tuple[str, ...]
    values: np.ndarray
    lines: Sequence[int] | None
    rows: np.ndarray
    target: int

    def __post_init__(self):
        if len(self.values) == 0:
            raise ValueError(
                f"Argument `file` must have at least one row of numbers, but {self.source} has none."
            )
        if (bad := first_not_finite(self.values)) is not None:
            raise ValueError(
                f"Argument `file` must hold finite numbers, but {self.cell(*bad)} is "
                f"{self.values[bad]}. Remove the row or impute the value (`missing='drop'` or `'mean'`)."
            )

    def cell(self, row: int, column: int) -> str:
        """The place of a cell, for messages."""
        where = f"row {self.rows[row] + 1}" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.source}, {where}, column `{self.names[column]}`"


def kept_columns(source: Any, names: Sequence[str], drop: Sequence[str]) -> list[int]:
    """The indices of the columns without those to drop.

    Raises:
        ValueError: if a name to drop is unknown, names are repeated, or fewer than two columns are left.
    """
    unknown = [name for name in drop if name not in names]
    if unknown:
        raise ValueError(
            f"Argument `drop` must name columns of {source}, but it names {unknown[0]!r}; the columns are "
            f"{', '.join(names)}."
        )
    kept = [column for column, name in enumerate(names) if name not in drop]
    _require_columns(source, names, [names[column] for column in kept])
    return kept


def _require_columns(source: Any, names: Sequence[str], kept: Sequence[str]) -> None:
    """Raise unless at least two columns are kept, and all have distinct names."""
    if len(kept) < 2:
        raise ValueError(
            f"Argument `file` must have at least two columns, features and a target, but {source} has only "
            f"`{', '.join(kept)}`. In CSV, commas, semicolons, tabs or spaces separate columns."
        )
    first = {}
    for column, name in enumerate(names, start=1):
        if name in first:
            raise ValueError(
                f"Argument `file` must have distinct column names, but in {source} columns "
                f"{first[name]} and {column} are both `{name}`."
            )
        first[name] = column


def first_not_finite(values: np.ndarray) -> tuple[int, int] | None:
    """The row and the column of the first NaN or infinite entry."""
    bad = np.argwhere(~np.isfinite(values))
    return (int(bad[0, 0]), int(bad[0, 1])) if len(bad) else None


def _renamed(target: str, names: Sequence[str]) -> str:
    """The name that a target has among the encoded ones."""
    return target if target in names else next(n for n in names if n.startswith(f"{target}="))


def _days(column: np.ndarray) -> np.ndarray | None:
    """Days since 1970-01-01 of a column of dates, NaN where one is missing; None of any other."""
    if column.dtype.kind != "M":
        texts = ["NaT" if cell is None else _iso_date(cell) for cell in column]
        if None in texts or set(texts) <= {"NaT"}:
            return None
        try:
            column = np.asarray(texts, "datetime64[us]")
        except ValueError:
            return None
    days = (column - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    return np.where(np.isnat(column), np.nan, days)


def _iso_date(text: str) -> str | None:
    """A date as ISO 8601 writes it; None of other texts, and where day and month could be exchanged."""
    text = text.strip()
    if found := YEAR_FIRST.fullmatch(text):
        year, month, day, time = found.groups()
    elif (found := NAMED_MONTH.fullmatch(text)) and (found[1] is None) != (found[3] is None):
        names = [name for name in MONTHS if found[2].lower() in (name, name[:3])]
        if not names:
            return None
        year, month, time = found[4], MONTHS.index(names[0]) + 1, None
        day = found[1] or found[3]
    else:
        return None
    date = f"{year}-{int(month):02}-{int(day):02}"
    return f"{date}T{time}" if time else date


def _mean_filled(
    source: Any, names: Sequence[str], matrix: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    absent = np.isnan(matrix)
    if (empty := np.flatnonzero(absent[rows].all(axis=0))).size and len(rows):
        raise ValueError(
            f"Argument `missing` must not be 'mean' if a column is empty, but {source}, column "
            f"`{names[empty[0]]}`, is. Leave it out with `drop`."
        )
    known = np.where(absent, 0, matrix)[rows]
    mean = known.sum(axis=0) / np.maximum((~absent[rows]).sum(axis=0), 1)
    return np.where(absent, mean, matrix)


def _first(column: np.ndarray) -> tuple[int, Any]:
    return next(((row, cell) for row, cell in enumerate(column) if cell is not None), (0, None))


def _wrong_cells(found: Columns, wrong: dict[str, np.ndarray]) -> str:
    """The message on all cells of a file that hold no number."""
    lines = found.lines or ()
    cells = {
        name: [(lines[row], cell) for row, cell in enumerate(column) if _is_text(cell)]
        for name, column in wrong.items()
    }
    name, ((line, cell), *_) = next(iter(cells.items()))
    text = (
        f"Argument `file` must hold numbers, but {found.source}, line {line}, column `{name}` is "
        f"{cell or ''!r}."
    )
    if len(cells) == 1 and len(cells[name]) == 1:
        return text
    text += " Cells without a number, by column:"
    for name, places in list(cells.items())[:SHOWN]:
        empty = sum(not (cell or "").strip() for _, cell in places)
        line, cell = next(((n, c) for n, c in places if c and c.strip()), places[0])
        text += f"\n  `{name}`: {len(places)}"
        if empty:
            text += ", all empty" if empty == len(places) else f", {empty} of them empty"
        text += f", {cell!r} in line {line}" if cell and cell.strip() else f", in line {line}"
    return text + (f"\n  and {len(cells) - SHOWN} more columns" if len(cells) > SHOWN else "")


def _is_text(cell: str | None) -> bool:
    """True for a cell of a column of texts that is no number itself."""
    return cell is None or number(cell) is None


def number(cell: str, decimal: str = ".") -> float | None:
    """The number in a cell, if it holds one; True and False are 1 and 0."""
    cell = cell.strip()
    if cell.lower() in ("true", "false"):
        return float(cell.lower() == "true")
    if decimal == ",":
        # 1.234,5 may be a thousand or a little more than one.
        cell = "" if "." in cell and "," in cell else cell.replace(",", ".")
    try:
        # Python takes 1_000 for a number; in data it is a damaged cell.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
