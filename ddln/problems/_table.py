"""Tables of numbers, the common form of all files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Table:
    """Numbers under column names, and their places in the file.

    Attributes:
        file: the file.
        names: the names of the columns.
        values: float64, shape [rows, columns].
        lines: the line of the file, from 1, on which each row stands; if None the file has no lines
            and rows are counted from 1.
    """

    file: Path
    names: tuple[str, ...]
    values: np.ndarray
    lines: Sequence[int] | None = None

    def __post_init__(self):
        if len(self.values) == 0:
            raise ValueError(
                f"Argument `file` must have at least one row of numbers, but {self.file} has none."
            )
        if (bad := first_not_finite(self.values)) is not None:
            raise ValueError(
                f"Argument `file` must hold finite numbers, but {self.cell(*bad)} is "
                f"{self.values[bad]}. Remove the row or impute the value."
            )

    def cell(self, row: int, column: int) -> str:
        """The place of a cell, for messages."""
        place = f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.file}, {place}, column `{self.names[column]}`"


def kept_columns(file: Path, names: Sequence[str], drop: Sequence[str]) -> list[int]:
    """The indices of the columns without those to drop.

    Raises:
        ValueError: if a name to drop is unknown, names are repeated, or fewer than two columns are left.
    """
    unknown = [name for name in drop if name not in names]
    if unknown:
        raise ValueError(
            f"Argument `drop` must name columns of {file}, but it names {unknown[0]!r}; the columns are "
            f"{', '.join(names)}."
        )
    kept = [column for column, name in enumerate(names) if name not in drop]
    _require_columns(file, names, [names[column] for column in kept])
    return kept


def _require_columns(file: Path, names: Sequence[str], kept: Sequence[str]) -> None:
    """Raise unless at least two columns are kept, and all have distinct names."""
    if len(kept) < 2:
        raise ValueError(
            "Argument `file` must have at least two columns, features and a target, but "
            f"{file} has only `{', '.join(kept)}`. In CSV, commas separate columns."
        )
    first = {}
    for column, name in enumerate(names, start=1):
        if name in first:
            raise ValueError(
                f"Argument `file` must have distinct column names, but in {file} columns "
                f"{first[name]} and {column} are both `{name}`."
            )
        first[name] = column


def first_not_finite(values: np.ndarray) -> tuple[int, int] | None:
    """The row and the column of the first NaN or infinite entry."""
    bad = np.argwhere(~np.isfinite(values))
    return (int(bad[0, 0]), int(bad[0, 1])) if len(bad) else None
