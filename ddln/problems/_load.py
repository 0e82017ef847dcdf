"""Problems from files."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ddln._types import Array
from ddln.problems._csv import read_csv
from ddln.problems._dtype import float_dtype
from ddln.problems._npy import read_npy, read_npz
from ddln.problems._parquet import read_parquet
from ddln.problems._problem import Problem
from ddln.problems._standardize import unit_columns
from ddln.problems._table import Table, first_not_finite

_READERS = {".csv": read_csv, ".npy": read_npy, ".npz": read_npz, ".parquet": read_parquet}


def load(
    file: str | os.PathLike[str],
    *,
    target: str | int | None = None,
    drop: Sequence[str] = (),
    standardize: bool = False,
    center: bool = False,
    dtype: DTypeLike | None = None,
) -> Problem:
    """Read a problem from a file.

    By its ending the file is
    - `.csv`: UTF-8, comma-separated, a line of column names and then numbers, or True and False;
    - `.parquet`: numeric columns (needs the extra `data`), or a folder of such files; the index of a
      pandas frame is left out;
    - `.npy`: one matrix; its columns are named x0, x1, ...;
    - `.npz`: a matrix X, whose columns are named x0, x1, ..., and a vector y.

    Example:
        >>> problem = load("prostate.csv", target="lpsa", standardize=True, center=True)

    Args:
        file: the path of the file; `~` is the home folder.
        target: the column that is y, by name or by index (negative from the end); the last one if
            not given. A string of digits that names no column is an index. An NPZ file has a y.
        drop: names of columns to leave out, which may then hold anything.
        standardize: whether each column of X gets mean 0 and l2 norm 1.
        center: whether y gets mean 0, which together with `standardize` replaces an intercept.
            Not for labels -1 and 1.
        dtype: the dtype of the arrays; JAX's default float dtype if not given.

    Returns:
        The problem, named after the file, without a theta_true.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if the file is Parquet and pyarrow is missing.
        ValueError: if the file is empty, damaged, ragged, holds anything but finite numbers, or
            repeats a column name; if there is no column `target`, or one to drop; if a column to
            standardize is constant; if a number is too large for the dtype. The message names the
            file, the row (counted from 1; for CSV the line of the file) and the column.
    """
    path = Path(file).expanduser()
    if path.suffix.lower() not in _READERS:
        raise ValueError(
            f"Argument `file` must end in one of {', '.join(_READERS)}, but it is {path}."
        )
    if not (path.is_file() or (path.is_dir() and path.suffix.lower() == ".parquet")):
        raise FileNotFoundError(f"Argument `file` must be an existing file, but {path} is not one.")
    if target is not None and path.suffix.lower() == ".npz":
        raise ValueError(
            "Argument `target` must be left out for NPZ files, whose target is y, "
            f"but it is {target!r}."
        )
    dtype = float_dtype(dtype)
    table = _READERS[path.suffix.lower()](path, drop)
    chosen = _target_column(table, "y" if path.suffix.lower() == ".npz" else target)
    features = [column for column in range(len(table.names)) if column != chosen]
    X, y = table.values[:, features], table.values[:, chosen]
    if standardize:
        _require_varying(table, features)
        X = unit_columns(X)
    # A mean that overflows leaves infinite entries, which the conversion reports.
    with np.errstate(over="ignore", invalid="ignore"):
        y = y - y.mean() if center else y
    return Problem(
        _converted(table, X, features, dtype),
        _converted(table, y[:, None], [chosen], dtype)[:, 0],
        feature_names=[table.names[column] for column in features],
        target_name=table.names[chosen],
        name=path.stem,
    )


def _target_column(table: Table, target: str | int | None) -> int:
    """The index of the target's column."""
    if target is None:
        return len(table.names) - 1
    if isinstance(target, str) and target in table.names:
        return table.names.index(target)
    if isinstance(target, str):
        if not target.removeprefix("-").isdecimal():
            raise ValueError(
                f"Argument `target` must be a column of {table.file}, but it is {target!r}; the "
                f"columns are {', '.join(table.names)}."
            )
        target = int(target)
    count = len(table.names)
    if not -count <= target < count:
        raise ValueError(
            f"Argument `target` must be from {-count} to {count - 1}, since {table.file} has "
            f"{count} columns, but it is {target}."
        )
    return target % count


def _require_varying(table: Table, columns: list[int]) -> None:
    """Raise if a column is constant."""
    for column in columns:
        values = table.values[:, column]
        if values.min() == values.max():
            raise ValueError(
                f"Argument `standardize` must be False if a column is constant, but {table.file}, "
                f"column `{table.names[column]}`, is {values[0]} in every row. Remove the column."
            )


def _converted(table: Table, values: np.ndarray, columns: list[int], dtype: np.dtype) -> Array:
    """The values of these columns in the dtype, if they fit."""
    with np.errstate(over="ignore"):
        converted = values.astype(dtype)
    if (bad := first_not_finite(converted)) is not None:
        row, column = bad[0], columns[bad[1]]
        raise ValueError(
            f"Argument `dtype` must be able to hold every number, but {dtype} cannot hold "
            f"{table.cell(row, column)}, which is {table.values[row, column]}."
        )
    return jnp.asarray(converted)
