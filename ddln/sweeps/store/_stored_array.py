"""Array of results that stays in its store."""

from typing import Any

import numpy as np

from ddln.sweeps.store._grid import Grid


class StoredArray(np.lib.mixins.NDArrayOperatorsMixin):
    """Rows of a Zarr array, one for each lane; read on demand, a chunk at a time.

    An index reads the rows it names. Arithmetic, comparisons, NumPy's functions, and the methods and
    attributes of `numpy.ndarray` read all of them.

    Attributes:
        shape: the number of lanes, and the shape of a row.
        dtype: of the entries.

    Args:
        array: the Zarr array, with the dimensions of the grid first.
        grid: the lanes of the store.
        first: the number of the first lane in the grid.
        lanes: the number of lanes.
    """

    def __init__(self, array: Any, grid: Grid, first: int, lanes: int):
        self._array = array
        self._grid = grid
        self._first = first
        self.shape: tuple[int, ...] = (lanes, *array.shape[len(grid.sizes) :])
        self.dtype: np.dtype = array.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __getattr__(self, name: str) -> Any:
        # Private names are asked for while a copy or a pickle is made, before there is anything to read.
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"'StoredArray' object has no attribute {name!r}")
        return getattr(np.asarray(self), name)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **settings: Any) -> Any:
        read = (np.asarray(x) if isinstance(x, StoredArray) else x for x in inputs)
        return getattr(ufunc, method)(*read, **settings)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"StoredArray(shape={self.shape}, dtype={self.dtype})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(
                "A stored array is read from its store: it has no form without a copy."
            )
        rows = self._rows(np.arange(len(self)), (...,))
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        """Index as a NumPy array; the first index is an integer, a slice, or an array of lanes."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            missing = self.ndim - len(rest)
            first, rest = slice(None), [slice(None)] * (missing - 1) + rest
        lanes = self._lanes(first)
        rows = self._rows(np.atleast_1d(lanes), tuple(rest))
        return rows if lanes.ndim else rows[0]

    def _lanes(self, index: Any) -> np.ndarray:
        """Numbers of the lanes that an index along the first axis selects.

        Raises:
            IndexError: if the index has another form, or there is no such lane.
        """
        if isinstance(index, slice):
            return np.arange(*index.indices(len(self)))
        lanes = np.asarray(index)
        if lanes.dtype == bool:
            if lanes.shape != self.shape[:1]:
                raise IndexError(f"A mask of lanes must have shape {self.shape[:1]}.")
            return np.flatnonzero(lanes)
        if lanes.ndim > 1 or (lanes.dtype.kind not in "iu" and lanes.size):
            raise IndexError(
                "Index lanes with an integer, a slice, an integer array or a boolean mask."
            )
        if lanes.size and not (-len(self) <= lanes.min() and lanes.max() < len(self)):
            raise IndexError(f"Lanes are numbered from 0 to {len(self) - 1}.")
        return np.where(lanes < 0, lanes + len(self), lanes).astype(int)

    def _rows(self, lanes: np.ndarray, rest: tuple[Any, ...]) -> np.ndarray:
        """Rows of these lanes, each indexed by `rest`."""
        kept: np.ndarray | None = None
        order = np.argsort(lanes, kind="stable")
        ordered, position = lanes[order], 0
        while position < len(order):
            chunk = self._grid.chunk_of(self._first + int(ordered[position]))
            start, stop = (lane - self._first for lane in self._grid.span(chunk))
            until = int(np.searchsorted(ordered, stop))
            chosen = order[position:until]
            rows = self._array[self._grid.region(chunk)].reshape(stop - start, *self.shape[1:])
            rows = rows[lanes[chosen] - start][(slice(None), *rest)]
            if kept is None:
                kept = np.empty((len(lanes), *rows.shape[1:]), rows.dtype)
            kept[chosen] = rows
            position = until
        if kept is None:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
        return kept
