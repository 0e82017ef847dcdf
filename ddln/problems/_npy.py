"""NumPy's own files, without pickled objects."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddln.problems._table import Columns, kept_columns

# What NumPy raises on damaged, truncated or pickled content.
_DAMAGE = (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error)


def read_npy(file: Path, drop: Sequence[str]) -> Columns:
    """Read an NPY file with one matrix; its columns are named x0, x1, ..."""
    try:
        with file.open("rb") as stream:
            matrix = np.lib.format.read_array(stream, allow_pickle=False)
    except _DAMAGE:
        raise _unreadable(f"{file}") from None
    matrix = _real(f"{file}", matrix, ndim=2)
    return _table(file, [f"x{j}" for j in range(matrix.shape[1])], matrix, drop)


def read_npz(file: Path, drop: Sequence[str]) -> Columns:
    """Read an NPZ file with arrays X and y; the columns are named x0, x1, ..., y."""
    arrays = {}
    try:
        with zipfile.ZipFile(file) as archive:
            held = archive.namelist()
            for name in ("X", "y"):
                if f"{name}.npy" in held:
                    with archive.open(f"{name}.npy") as stream:
                        arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    except _DAMAGE:
        raise _unreadable(f"{file}") from None
    missing = [name for name in ("X", "y") if name not in arrays]
    if missing:
        raise ValueError(
            f"Argument `file` must hold arrays X and y, but {file} has no "
            f"{' and no '.join(missing)}."
        )
    X = _real(f"{file}, array X,", arrays["X"], ndim=2)
    y = _real(f"{file}, array y,", arrays["y"], ndim=1)
    if len(X) != len(y):
        raise ValueError(
            f"Argument `file` must have as many rows in X as in y, but in {file} X ends after row "
            f"{len(X)} and y after row {len(y)}."
        )
    names = [*(f"x{j}" for j in range(X.shape[1])), "y"]
    return _table(file, names, np.column_stack([X, y]), drop)


def _table(file: Path, names: list[str], values: np.ndarray, drop: Sequence[str]) -> Columns:
    kept = kept_columns(file, names, drop)
    return Columns(file, tuple(names[c] for c in kept), tuple(values[:, c] for c in kept))


def _unreadable(where: str) -> ValueError:
    return ValueError(
        f"Argument `file` must be an intact NumPy file of numbers, but {where} is damaged, is no "
        "NumPy file, or holds Python objects."
    )


def _real(where: str, array: np.ndarray, ndim: int) -> np.ndarray:
    """The array as float64, if it is real and has as many axes."""
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"Argument `file` must hold real numbers, but {where} has dtype {array.dtype}."
        )
    if array.ndim != ndim:
        raise ValueError(
            f"Argument `file` must hold a {'matrix' if ndim == 2 else 'vector'} there, but {where} "
            f"has shape {array.shape}."
        )
    return array.astype(np.float64)
