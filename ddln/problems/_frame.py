"""Data in memory: frames, datasets, bunches, and arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ddln.problems._table import Columns, kept_columns


def read_object(data: Any, drop: Sequence[str]) -> tuple[Columns, str | None]:
    """The columns of an object, and the name of its target if it says which that is.

    By its form, without importing the package it is from, the object is
    - a frame of pandas or polars, whose index is no column;
    - an `xarray.Dataset`: its variables along one dimension;
    - a bunch of scikit-learn: `data`, `target` and the names of features;
    - a mapping of names to columns;
    - a pair (X, y), or one matrix, whose columns are named x0, x1, ...

    Raises:
        ValueError: if it is none of these.
    """
    kind = type(data).__name__
    target = None
    if isinstance(data, dict) and {"data", "target"} <= data.keys():
        names, columns, target = _of_bunch(data)
    elif isinstance(data, dict):
        names, columns = list(map(str, data)), [_cells(column) for column in data.values()]
    elif hasattr(data, "data_vars"):
        names, columns = _of_dataset(data)
    elif hasattr(data, "columns") and hasattr(data, "dtypes"):
        names = [str(name) for name in data.columns]
        columns = [_cells(data[name]) for name in data.columns]
    else:
        names, columns = _of_arrays(data, kind)
        target = "y" if isinstance(data, tuple) else None
    if len({len(column) for column in columns}) > 1:
        raise ValueError(
            f"Argument `file` must have columns of one length, but those of the {kind} have "
            f"{[len(column) for column in columns]}."
        )
    kept = kept_columns(f"the {kind}", names, drop)
    found = tuple(_converted(kind, names[place], columns[place]) for place in kept)
    return Columns(f"the {kind}", tuple(names[place] for place in kept), found), target


def _cells(column: Any) -> np.ndarray:
    """The cells of a column as an array; a category is its text."""
    if hasattr(column, "cat") and hasattr(column, "astype"):
        column = column.astype(object)
    return np.asarray(column)


def _of_dataset(data: Any) -> tuple[list[str], list[np.ndarray]]:
    if len(data.dims) != 1:
        raise ValueError(
            f"Argument `file` must be a Dataset of one dimension, but it has {tuple(data.dims)}. Select or "
            "stack the others."
        )
    variables = {str(k): v for k, v in data.data_vars.items() if v.ndim == 1}
    return list(variables), [np.asarray(variable) for variable in variables.values()]


def _of_bunch(data: Any) -> tuple[list[str], list[np.ndarray], str]:
    inputs = data["data"]
    matrix = np.asarray(inputs)
    names = data.get("feature_names")
    names = getattr(inputs, "columns", None) if names is None else names
    names = [f"x{j}" for j in range(matrix.shape[1])] if names is None else list(map(str, names))
    target = "target" if "target" not in names else "y"
    columns = [_cells(inputs[name]) for name in names] if hasattr(inputs, "columns") else matrix.T
    return [*names, target], [*columns, np.asarray(data["target"])], target


def _of_arrays(data: Any, kind: str) -> tuple[list[str], list[np.ndarray]]:
    pair = isinstance(data, tuple) and len(data) == 2
    matrix = np.asarray(data[0] if pair else data)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiubO":
        raise ValueError(
            "Argument `file` must be a path, a frame, a Dataset, a bunch, a mapping of columns, a matrix, or "
            f"a pair (X, y) with a matrix X, but it is a {kind}"
            f"{f' of shape {matrix.shape}' if matrix.shape else ''}."
        )
    names = [f"x{j}" for j in range(matrix.shape[1])]
    if not pair:
        return names, list(matrix.T)
    y = np.asarray(data[1])
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != matrix.shape[:1]:
        raise ValueError(
            f"Argument `file` must be a pair (X, y) with one target for each of the {len(matrix)} rows of "
            f"X, but y has shape {y.shape}."
        )
    return [*names, "y"], [*matrix.T, y]


def _converted(kind: str, name: str, column: np.ndarray) -> np.ndarray:
    """A column as float64, datetime64, or an array of texts and None."""
    if column.ndim != 1:
        raise ValueError(
            f"Argument `file` must hold columns, but the {kind}, column `{name}` must be of one axis, and "
            f"it has shape {column.shape}."
        )
    if column.dtype.kind in "fiub":
        return column.astype(np.float64)
    if column.dtype.kind == "M":
        return column.astype("datetime64[us]")
    if column.dtype.kind not in "OUT":
        raise ValueError(
            f"Argument `file` must hold numbers, texts or dates, but the {kind}, column `{name}` has dtype "
            f"{column.dtype}. Leave it out with `drop`."
        )
    # Missing values differ from themselves, or have no truth value, by the package they are from.
    cells = [None if _is_missing(cell) else cell for cell in column.tolist()]
    if all(cell is None or isinstance(cell, bool | int | float | np.number) for cell in cells):
        return np.asarray([np.nan if cell is None else float(cell) for cell in cells])
    return np.asarray([*(None if cell is None else str(cell) for cell in cells), None], object)[:-1]


def _is_missing(cell: Any) -> bool:
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or bool(cell != cell)
