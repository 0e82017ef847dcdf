"""Problems from files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ddln._types import Array
from ddln._validation import require_option
from ddln.problems._csv import read_csv
from ddln.problems._dtype import float_dtype
from ddln.problems._frame import read_object
from ddln.problems._npy import read_npy, read_npz
from ddln.problems._parquet import read_parquet
from ddln.problems._problem import Problem
from ddln.problems._standardize import Standardization, standardized
from ddln.problems._table import Columns, Table, first_not_finite

_READERS = {
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".feather": read_parquet,
    ".npy": read_npy,
    ".npz": read_npz,
    ".parquet": read_parquet,
    ".tsv": read_csv,
}


def load(
    file: Any,
    *,
    target: str | int | None = None,
    drop: Sequence[str] = (),
    encode: bool = False,
    missing: str = "error",
    standardize: bool = False,
    center: bool = False,
    dtype: DTypeLike | None = None,
) -> Problem:
    """Read a problem from a file, or from data in memory.

    By its ending the file is
    - `.csv`, `.tsv`, `.csv.gz`: UTF-8, a line of column names and then numbers, or True and False; commas,
      semicolons, tabs, bars or else spaces separate columns; beside semicolons, tabs and bars commas are
      decimal points; lines that begin with # before the names are notes;
    - `.parquet` or `.feather` (need the extra `data`), or a folder of Parquet files;
    - `.npy`: one matrix; its columns are named x0, x1, ...;
    - `.npz`: a matrix X, whose columns are named x0, x1, ..., and a vector y.

    In memory it is a frame of pandas or polars, an `xarray.Dataset` of one dimension, a bunch of
    scikit-learn, a mapping of names to columns, a pair (X, y), or one matrix. The index of a frame is no
    column, nor is a first column of a CSV file that has no name and counts the rows, nor are row names of R.

    Example:
        >>> problem = load("prostate.csv", target="lpsa", standardize=True, center=True)
        >>> theta = ddln.limit(network, problem.loss()).theta
        >>> problem.standardization.predict(theta, new_rows)

    Args:
        file: the path of the file (`~` is the home folder), or the data.
        target: the column that is y, by name or by index (negative from the end); the last one if
            not given. A string of digits that names no column is an index. An NPZ file, a pair and a
            bunch have a y.
        drop: names of columns to leave out, which may then hold anything.
        encode: True turns a column of texts into an indicator, 1 or 0, of each text, named `column=text`,
            a target with two texts into labels -1 and 1, and dates, as 2000-01-31, 2000/1/31 or Jan 31 2000,
            into days since 1970-01-01.
        missing: "error" refuses missing values, with a list; "drop" leaves out their rows, "mean" fills
            them with the mean of the column (and leaves out rows without a target). In CSV these are
            empty cells, NA, N/A, NaN, null, None and ?.
        standardize: whether each column of X gets mean 0 and l2 norm 1.
        center: whether y gets mean 0, which together with `standardize` replaces an intercept.
            Not for labels -1 and 1.
        dtype: the dtype of the arrays; JAX's default float dtype if not given.

    Returns:
        The problem, named after the file, without a theta_true. Its `standardization` has the means and
        norms, and the rows of the data, and gives coefficients and predictions in the units of the data.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if the file is Parquet or Feather and pyarrow is missing.
        ValueError: if the file is empty, damaged, ragged, holds anything but finite numbers, or
            repeats a column name; if there is no column `target`, or one to drop; if a column to
            standardize is constant; if a number is too large for the dtype, or the dtype cannot tell the
            numbers of a column apart. The message names the file, the row (counted from 1; for CSV the
            line of the file) and the column.
    """
    require_option("missing", missing, ("error", "drop", "mean"))
    dtype = float_dtype(dtype)
    columns, own, name = _columns(file, drop, missing)
    if own is not None and target is not None:
        raise ValueError(
            f"Argument `target` must be left out for {own[1]}, whose target is {own[0]}, "
            f"but it is {target!r}."
        )
    chosen = _target_column(columns, target if own is None else own[0])
    table = columns.table(encode, missing, chosen)
    chosen = table.target
    features = [column for column in range(len(table.names)) if column != chosen]
    X, y = table.values[:, features], table.values[:, chosen]
    mean, norm = np.zeros(len(features)), np.ones(len(features))
    if standardize:
        _require_varying(table, features)
        X, mean, norm = standardized(X)
    # A mean that overflows leaves infinite entries, which the conversion reports.
    with np.errstate(over="ignore", invalid="ignore"):
        shift = y.mean() if center else 0.0
        y = y - shift
    _require_resolved(table, X, features, dtype)
    return Problem(
        _converted(table, X, features, dtype),
        _converted(table, y[:, None], [chosen], dtype)[:, 0],
        feature_names=[table.names[column] for column in features],
        target_name=table.names[chosen],
        name=name,
        standardization=Standardization(mean, norm, float(shift), 1.0, table.rows),
    )


def _columns(
    file: Any, drop: Sequence[str], missing: str
) -> tuple[Columns, tuple[str, str] | None, str]:
    """The columns of a file or an object, its own target with the words for it, and its name."""
    if not isinstance(file, str | os.PathLike):
        columns, target = read_object(file, drop)
        words = f"a {type(file).__name__} with a target of its own"
        return columns, None if target is None else (target, words), "data"
    path = Path(file).expanduser()
    ending = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:])
    reader = _READERS.get(ending.lower())
    if reader is None:
        raise ValueError(
            f"Argument `file` must end in one of {', '.join(_READERS)}, but it is {path}."
        )
    if not (path.is_file() or (path.is_dir() and ending.lower() == ".parquet")):
        raise FileNotFoundError(f"Argument `file` must be an existing file, but {path} is not one.")
    columns = read_csv(path, drop, missing) if reader is read_csv else reader(path, drop)
    own = ("y", "NPZ files") if reader is read_npz else None
    return columns, own, path.name.removesuffix(ending)


def _target_column(table: Columns, target: str | int | None) -> int:
    """The index of the target's column."""
    if target is None:
        return len(table.names) - 1
    if isinstance(target, str) and target in table.names:
        return table.names.index(target)
    if isinstance(target, str):
        if not target.removeprefix("-").isdecimal():
            raise ValueError(
                f"Argument `target` must be a column of {table.source}, but it is {target!r}; the "
                f"columns are {', '.join(table.names)}."
            )
        target = int(target)
    count = len(table.names)
    if not -count <= target < count:
        raise ValueError(
            f"Argument `target` must be from {-count} to {count - 1}, since {table.source} has "
            f"{count} columns, but it is {target}."
        )
    return target % count


def _require_varying(table: Table, columns: list[int]) -> None:
    """Raise if a column is constant."""
    values = table.values[:, columns]
    constant = np.flatnonzero(values.min(axis=0) == values.max(axis=0))
    if constant.size:
        names = [table.names[columns[place]] for place in constant]
        more = f", and so are {', '.join(names[1:])}" if len(names) > 1 else ""
        raise ValueError(
            f"Argument `standardize` must be False if a column is constant, but {table.source}, "
            f"column `{names[0]}`, is {values[0, constant[0]]} in every row{more}. "
            f"Leave out with `drop={names}`."
        )


def _require_resolved(table: Table, X: np.ndarray, columns: list[int], dtype: np.dtype) -> None:
    """Raise if rounding to the dtype leaves less than a thousandth of what a column varies by."""
    unit = float(jnp.finfo(dtype).eps)
    spread, size = np.ptp(X, axis=0), np.abs(X).max(axis=0)
    lost = np.flatnonzero((spread > 0) & (spread < 1e3 * unit * size))
    if lost.size:
        raise ValueError(
            f"Argument `standardize` must be True, since {dtype} cannot tell the numbers of {table.source}, "
            f"column `{table.names[columns[lost[0]]]}`, apart: they vary by {spread[lost[0]]:.3g} around "
            f"{size[lost[0]]:.3g}. Or use float64."
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
