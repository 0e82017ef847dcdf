"""Where the chunks of a sweep go: into memory, or into a store."""

import contextlib
import json
import os
import re
import warnings
from array import array
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from ddln.sweeps._engine import Finished
from ddln.sweeps._lanes import Lane
from ddln.sweeps._plan import Plan, joined
from ddln.sweeps._result import SweepResult
from ddln.sweeps.store import (
    DTYPES,
    FORMAT,
    MARK,
    AbstractFolder,
    ArraySpec,
    Grid,
    Header,
    StoredArray,
    SweepStore,
    attributes,
    chunk_key,
    damage,
    differences,
    fingerprint,
    folder,
    inner_dims,
    layout,
    restored,
    variables,
    versions,
)

# What an interrupted write of Zarr leaves beside the file it was to become.
LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.partial$")


class Memory:
    """Keeps the chunks of a sweep, and joins them in the end."""

    first = 0
    write = None

    def __init__(self, plan: Plan):
        self.plan = plan
        self.grid = Grid.of((plan.lanes.size,), plan.width)
        self.chunks = range(self.grid.chunks)
        self._kept: dict[int, Lane] = {}

    def accept(self, finished: Finished) -> None:
        assert finished.kept is not None
        self._kept[finished.chunk] = finished.kept

    def result(self) -> SweepResult:
        return SweepResult.of(joined([self._kept.pop(chunk) for chunk in self.chunks]))

    def how_to_go_on(self) -> str:
        return "Nothing was kept: pass `store` to keep finished chunks."


class Stored:
    """Chunks that are written by whoever computes them.

    Attributes:
        plan: with as many lanes at once as the chunks of the store have.
        grid: the chunks of the whole store.
        first: the first lane of this sweep in it.
        chunks: the numbers of those still to be computed.
        write: writes one.
    """

    def __init__(
        self, plan: Plan, header: Header, first: int, chunks: array, place: AbstractFolder
    ):
        self.plan = plan.with_width(header.grid.chunk_lanes)
        self.grid = header.grid
        self.first = first
        self.chunks = chunks
        self.write = Writer(str(place), header.grid)
        self._place = place
        self._names = tuple(header.specs)

    def accept(self, finished: Finished) -> None:
        """They are in the store already."""

    def result(self) -> SweepResult:
        group = _group(str(self._place), mode="r")
        arrays = {
            name: StoredArray(group[name], self.grid, self.first, self.plan.lanes.size)
            for name in self._names
        }
        return SweepResult.of(restored(arrays, self.plan.lanes.one()))

    def how_to_go_on(self) -> str:
        return (
            f"Finished chunks are kept in {self._place}. Call the same sweep again to compute the "
            "missing ones."
        )


class Writer:
    """Writes the chunks of a sweep, from any process."""

    def __init__(self, url: str, grid: Grid):
        self._url = url
        self._grid = grid
        self._arrays: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}}

    def __call__(self, chunk: int, lanes: Lane) -> None:
        if not self._arrays:
            self._arrays = dict(_group(self._url, mode="r+").arrays())
        region = self._grid.region(chunk)
        shape = tuple(piece.stop - piece.start for piece in region)
        # The mark is the last one: a chunk that has it is complete.
        for name, values in variables(lanes).items():
            self._arrays[name][region] = values.reshape(*shape, *values.shape[1:])


@contextlib.contextmanager
def opened(
    store: str | os.PathLike[str] | SweepStore | None, plan: Plan, chunk_size: int | None
) -> Iterator[Memory | Stored]:
    """The sink for a sweep, for as long as it writes."""
    if store is None:
        yield Memory(plan)
        return
    if not isinstance(store, SweepStore):
        store = SweepStore(store)
    place = folder(store.url)
    with place.lock():
        sizes = place.sizes()
        for key in filter(LEFTOVER.search, sizes):
            place.delete(key)
        configuration = json.loads(json.dumps(plan.lanes.describe()))
        one = plan.lanes.one()
        if not sizes:
            grid, _ = layout(store, plan.lanes.size, plan.width)
            specs = _specs(grid, store, one)
            place.create(lambda zarr_store: _create(zarr_store, store, specs))
            sizes = place.sizes()
        header = Header.read(place, sizes)
        width = header.grid.chunk_lanes if chunk_size is None else chunk_size
        grid, first = layout(store, plan.lanes.size, width)
        _admit(header, store, _specs(grid, store, one), configuration, place)
        chunks = _missing(header, sizes, first, plan.lanes.size, place)
        yield Stored(plan, header, first, chunks, place)


def _create(zarr_store: Any, store: SweepStore, specs: dict[str, ArraySpec]) -> None:
    import zarr

    group = zarr.create_group(zarr_store, zarr_format=3)
    for name, spec in specs.items():
        created = spec.create(group, name)
        if name in store.coords:
            created[:] = store.coords[name]
    # Last: without them it is not taken for a store.
    _update(
        zarr_store,
        {
            **store.attrs,
            "ddln_format": FORMAT,
            "dims": list(store.dims),
            "versions": versions(),
            "sweeps": {},
        },
    )


def _update(zarr_store: Any, attrs: dict[str, Any]) -> None:
    import zarr

    group = zarr.open_group(zarr_store, mode="r+", zarr_format=3, use_consolidated=False)
    group.attrs.update(attrs)
    with warnings.catch_warnings():
        # That format 3 does not describe consolidated metadata yet; xarray warns where they are absent.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(zarr_store)


def _group(url: str, mode: Literal["r", "r+"]) -> Any:
    import zarr

    # A chunk of nothing but the fill value is written too: its file says that it is done.
    with zarr.config.set({"array.write_empty_chunks": True}):
        store = folder(url).zarr_store(read_only=mode == "r")
        return zarr.open_group(store, mode=mode, zarr_format=3, use_consolidated=False)


def _specs(grid: Grid, store: SweepStore, one: Lane) -> dict[str, ArraySpec]:
    """The arrays of a store."""
    taken = (*store.dims, *store.coords)
    specs = {}
    for name, leaf in variables(one, taken).items():
        dims = (*store.dims, *inner_dims(name, leaf.shape))
        shape, chunk = (*grid.sizes, *leaf.shape), (*grid.chunk, *leaf.shape)
        if str(leaf.dtype) not in DTYPES or 0 in shape:
            raise ValueError(
                f"Argument `store` cannot keep {name!r} of dtype {leaf.dtype} and shape {leaf.shape}: "
                "let `observe` return numbers."
            )
        specs[name] = ArraySpec(dims, shape, chunk, str(leaf.dtype), attributes(name))
    known = {
        dim: n for spec in specs.values() for dim, n in zip(spec.dims, spec.shape, strict=True)
    }
    for name, labels in store.coords.items():
        if known.get(name) != len(labels):
            raise ValueError(
                f"Argument `coords` of the store has {len(labels)} labels for {name!r}, which has "
                f"{known.get(name, 'no')} entries."
            )
        specs[name] = ArraySpec((name,), labels.shape, labels.shape, str(labels.dtype))
    return specs


def _admit(
    header: Header,
    store: SweepStore,
    specs: dict[str, ArraySpec],
    configuration: dict[str, Any],
    place: AbstractFolder,
) -> None:
    """Enters a sweep in its store, or finds that it is there.

    Raises:
        ValueError: if the store is for another sweep, with what differs.
    """
    key = ", ".join(f"{name}={label}" for name, label in store.where.items()) or "all"
    sweeps = header.attrs["sweeps"]
    found: dict[str, Any] = {"arrays": _described(header.specs | header.labels)}
    wanted: dict[str, Any] = {"arrays": _described(specs)}
    found["chunk"], wanted["chunk"] = list(header.specs[MARK].chunk), list(specs[MARK].chunk)
    for name, labels in store.coords.items():
        stored = _group(str(place), mode="r")[name][:] if name in header.labels else "absent"
        found[name], wanted[name] = np.asarray(stored).tolist(), labels.tolist()
    if key in sweeps:
        found["configuration"] = sweeps[key]["configuration"]
        wanted["configuration"] = configuration
    differing = list(differences(found, wanted))
    changed = list(differences(header.attrs["versions"], versions()))
    if differing:
        raise ValueError(
            f"The store at {place} is of another sweep, and was left as it is. Choose another place, or "
            "call the sweep with the arguments it was begun with. What differs:\n  "
            + "\n  ".join(differing + [f"version of {line}" for line in changed])
        )
    if changed:
        warnings.warn(
            f"The store at {place} was begun with other versions, so that its parts may differ in the "
            f"last digits: {'; '.join(changed)}.",
            stacklevel=6,
        )
    if key not in sweeps:
        entry = {"configuration": configuration, "fingerprint": fingerprint(configuration)}
        _update(place.zarr_store(read_only=False), {"sweeps": {**sweeps, key: entry}})


def _described(specs: dict[str, ArraySpec]) -> dict[str, Any]:
    return {
        name: {
            "dims": list(spec.dims),
            "shape": list(spec.shape),
            "dtype": spec.dtype,
            "meanings": spec.attrs.get("flag_meanings", []),
        }
        for name, spec in specs.items()
    }


def _missing(
    header: Header, sizes: dict[str, int], first: int, lanes: int, place: AbstractFolder
) -> array:
    """The chunks of a sweep that are to be computed; damaged ones are removed first."""
    start, end = header.grid.chunk_of(first), header.grid.chunk_of(first + lanes - 1) + 1
    missing, damaged = array("q"), 0
    for chunk in range(start, end):
        marked = chunk_key(header, MARK, chunk) in sizes
        broken = damage(header, sizes, chunk)
        if marked and broken:
            damaged += 1
            # The mark goes first.
            for key in (chunk_key(header, MARK, chunk), *broken):
                place.delete(key)
        if broken:
            missing.append(chunk)
    if damaged:
        warnings.warn(
            f"{damaged} chunks of the store at {place} have files that are cut off or missing; they are "
            "computed again.",
            stacklevel=6,
        )
    return missing
