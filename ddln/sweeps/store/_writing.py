"""Writing of a store: its layout, its creation, and its chunks."""

import json
import re
from typing import Any

import numpy as np

from ddln.sweeps.store._array_spec import DTYPES, ArraySpec
from ddln.sweeps.store._folder import AbstractFolder, folder_at
from ddln.sweeps.store._grid import Grid
from ddln.sweeps.store._header import FORMAT, dimension_sizes
from ddln.sweeps.store._open_store import OpenStore, open_group, update_attributes, versions
from ddln.sweeps.store._store import SweepStore
from ddln.sweeps.store._variables import attributes, inner_dims, variables

# An interrupted write of Zarr leaves such a file beside its target.
LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.partial$")


class ChunkWriter:
    """Writer of the chunks of a sweep, for any process."""

    def __init__(self, opened: OpenStore):
        self._url = str(opened.folder)
        self._grid = opened.grid
        self._arrays: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}}

    def __call__(self, chunk: int, lanes: Any) -> None:
        named = variables(lanes)
        if not self._arrays:
            group = open_group(folder_at(self._url).zarr_store(read_only=False))
            # A chunk of nothing but the fill value is written too: its file says that it is done.
            settings = {"write_empty_chunks": True}
            self._arrays = {name: group[name].with_config(settings) for name in named}
        region = self._grid.region(chunk)
        shape = tuple(piece.stop - piece.start for piece in region)
        # The mark is the last one: a chunk that has it is complete.
        for name, values in named.items():
            self._arrays[name][region] = values.reshape(*shape, *values.shape[1:])


def prepare(
    folder: AbstractFolder, store: SweepStore, lanes: Any, width: int, chunk_size: int | None
) -> tuple[OpenStore, int]:
    """Open a store for the lanes of a sweep, under its lock; create it where there is none.

    Args:
        folder: the place of the store, which is locked.
        store: the dimensions and labels, and the part for this sweep.
        lanes: an `AbstractLanes`.
        width: the number of lanes in a chunk of a new store.
        chunk_size: the number that the sweep asks for; None accepts that of the store.

    Returns:
        The store, and the number of the first lane of the part.

    Raises:
        ValueError: if the lanes do not fit the labels, or the store is for another sweep.
    """
    sizes = folder.sizes()
    for key in filter(LEFTOVER.search, sizes):
        folder.delete(key)
    one, configuration = lanes.one(), json.loads(json.dumps(lanes.describe()))
    if not sizes:
        grid, _ = layout(store, lanes.size, width)
        specs = _specs(grid, store, one)
        folder.create(lambda zarr_store: _create(zarr_store, store, specs))
        sizes = folder.sizes()
    opened = OpenStore(folder, sizes)
    width = opened.grid.chunk_lanes if chunk_size is None else chunk_size
    grid, first = layout(store, lanes.size, width)
    sweep = ", ".join(f"{name}={label}" for name, label in store.where.items()) or "all"
    opened.admit(sweep, _specs(grid, store, one), store.coords, configuration)
    return opened, first


def layout(store: SweepStore, lanes: int, chunk_size: int) -> tuple[Grid, int]:
    """Grid of a store, and the number of the first lane of a part of it.

    Raises:
        ValueError: if the lanes do not fit the labels.
    """
    free = store.dims[len(store.where) :]
    known = {name: len(store.coords[name]) for name in store.dims if name in store.coords}
    unknown = [name for name in free if name not in known]
    size = int(np.prod([known[name] for name in free if name in known], dtype=np.int64))
    if len(unknown) > 1:
        raise ValueError(f"Argument `coords` of the store must have labels for {unknown[:-1]}.")
    if lanes % size or (not unknown and lanes != size):
        raise ValueError(
            f"The dimensions {free} of the store unfold {size} lanes{' each' if unknown else ''}, but "
            f"there are {lanes} initializations."
        )
    sizes = tuple(known.get(name, lanes // size) for name in store.dims)
    inner = Grid.of(sizes[len(store.where) :], chunk_size)
    grid = Grid(sizes, (*(1 for _ in store.where), *inner.chunk))
    outer = [int(np.flatnonzero(store.coords[k] == v)[0]) for k, v in store.where.items()]
    first = int(np.ravel_multi_index((*outer, *(0 for _ in free)), sizes))
    return grid, first


def _specs(grid: Grid, store: SweepStore, one: Any) -> dict[str, ArraySpec]:
    """Schemas of the arrays of a store for lanes such as `one`."""
    specs = {}
    for name, leaf in variables(one, (*store.dims, *store.coords)).items():
        dims = (*store.dims, *inner_dims(name, leaf.shape))
        shape, chunk = (*grid.sizes, *leaf.shape), (*grid.chunk, *leaf.shape)
        if str(leaf.dtype) not in DTYPES or 0 in shape:
            raise ValueError(
                f"Argument `store` cannot keep {name!r} of dtype {leaf.dtype} and shape {leaf.shape}: "
                "let `observe` return numbers."
            )
        specs[name] = ArraySpec(dims, shape, chunk, str(leaf.dtype), attributes(name))
    known = dimension_sizes(specs)
    for name, labels in store.coords.items():
        if known.get(name) != len(labels):
            raise ValueError(
                f"Argument `coords` of the store has {len(labels)} labels for {name!r}, which has "
                f"{known.get(name, 'no')} entries."
            )
        specs[name] = ArraySpec((name,), labels.shape, labels.shape, str(labels.dtype))
    return specs


def _create(zarr_store: Any, store: SweepStore, specs: dict[str, ArraySpec]) -> None:
    import zarr

    group = zarr.create_group(zarr_store, zarr_format=3)
    for name, spec in specs.items():
        created = spec.create(group, name)
        if name in store.coords:
            created[:] = store.coords[name]
    own = {
        "ddln_format": FORMAT,
        "dims": list(store.dims),
        "arrays": list(specs),
        "versions": versions(),
        "sweeps": {},
    }
    # Last: without these attributes the folder is not taken for a store.
    update_attributes(zarr_store, {**store.attrs, **own})
