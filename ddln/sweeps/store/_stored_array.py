"""An array of results that stays in its store."""

from typing import Any

import numpy as np

from ddln.sweeps.store._grid import Grid


class StoredArray:
    """Rows of a Zarr array, by lane; read when they are asked for, a chunk at a time.

    Attributes:
        shape: the number of lanes, and the shape of a row.
        dtype: of the entries.

    Args:
        array: the Zarr array, with the dimensions of the grid first.
        grid: the lanes of the store.
        first: the number of the first lane in the grid.
        lanes: how many there are.
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

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"StoredArray(shape={self.shape}, dtype={self.dtype})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(
                "A stored array is read from its store: it cannot be had without a copy."
            )
        rows = self._rows(range(len(self)), (...,))
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        """As of a NumPy array, where the first index is a number, a slice, or a list of lanes."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            missing = self.ndim - len(rest)
            first, rest = slice(None), [slice(None)] * (missing - 1) + rest
        if isinstance(first, slice):
            return self._rows(range(len(self))[first], tuple(rest))
        chosen = np.asarray(first)
        if chosen.dtype == bool:
            if chosen.shape != self.shape[:1]:
                raise IndexError(f"A mask of lanes must have shape {self.shape[:1]}.")
            chosen = np.flatnonzero(chosen)
        if chosen.ndim > 1 or (chosen.dtype.kind not in "iu" and chosen.size):
            raise IndexError(
                "Lanes must be told by a number, a slice, a list of numbers or a mask."
            )
        if chosen.size and not (-len(self) <= chosen.min() and chosen.max() < len(self)):
            raise IndexError(f"There are lanes from 0 to {len(self) - 1} only.")
        lanes = np.where(chosen < 0, chosen + len(self), chosen).astype(int)
        if lanes.ndim:
            return self._rows(lanes, tuple(rest))
        return self._rows(range(lanes, lanes + 1), tuple(rest))[0]

    def _rows(self, lanes: Any, rest: tuple[Any, ...]) -> np.ndarray:
        """Rows of these lanes, each indexed by `rest`."""
        where = (
            np.arange(lanes.start, lanes.stop, lanes.step) if isinstance(lanes, range) else lanes
        )
        kept: np.ndarray | None = None
        order = np.argsort(where, kind="stable")
        ordered, position = where[order], 0
        while position < len(order):
            chunk = self._grid.chunk_of(self._first + int(ordered[position]))
            start, stop = (lane - self._first for lane in self._grid.span(chunk))
            until = int(np.searchsorted(ordered, stop))
            chosen = order[position:until]
            rows = self._array[self._grid.region(chunk)].reshape(stop - start, *self.shape[1:])
            rows = rows[where[chosen] - start][(slice(None), *rest)]
            if kept is None:
                kept = np.empty((len(where), *rows.shape[1:]), rows.dtype)
            kept[chosen] = rows
            position = until
        if kept is None:
            empty = np.empty((0, *self.shape[1:]), self.dtype)
            return empty[(slice(None), *rest)]
        return kept
