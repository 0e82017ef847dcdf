"""What every reader makes of a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Table:
    """Numbers under column names, and where in the file they stand.

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
        """Where a cell is, for messages."""
        place = f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.file}, {place}, column `{self.names[column]}`"


def require_columns(file: Path, names: Sequence[str]) -> None:
    """Raises unless there are at least two columns, with distinct names."""
    if len(names) < 2:
        raise ValueError(
            "Argument `file` must have at least two columns, features and a target, but "
            f"{file} has only `{', '.join(names)}`. In CSV, commas separate columns."
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
