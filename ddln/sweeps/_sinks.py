"""Destination of the chunks of a sweep: memory or a store."""

import contextlib
import os
from collections.abc import Iterator

from ddln.sweeps._engine import Finished
from ddln.sweeps._lanes import Lane
from ddln.sweeps._plan import Plan, joined
from ddln.sweeps._result import SweepResult
from ddln.sweeps.store import (
    ChunkWriter,
    Grid,
    OpenStore,
    StoredArray,
    SweepStore,
    folder_at,
    open_group,
    prepare,
    restored,
)


class MemorySink:
    """Chunks of a sweep in memory, joined in the end."""

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


class StoreSink:
    """Chunks of a sweep in a store, each written by the process that computes it.

    Attributes:
        plan: the plan, with as many lanes at once as a chunk of the store has.
        grid: the chunks of the whole store.
        first: the number of the first lane of this sweep in the store.
        chunks: numbers of the chunks that are still to be computed.
        write: the writer of a chunk.
    """

    def __init__(self, plan: Plan, opened: OpenStore, first: int):
        self.plan = plan.with_width(opened.grid.chunk_lanes)
        self.grid = opened.grid
        self.first = first
        self.chunks = opened.take_missing(first, plan.lanes.size)
        self.write = ChunkWriter(opened)
        # Not the store itself, which holds the names of all files.
        self._folder = opened.folder
        self._names = tuple(opened.header.specs)

    def accept(self, finished: Finished) -> None:
        """Do nothing: the chunk is in the store already."""

    def result(self) -> SweepResult:
        group = open_group(self._folder.zarr_store(read_only=True))
        lanes = self.plan.lanes
        arrays = {
            name: StoredArray(group[name], self.grid, self.first, lanes.size)
            for name in self._names
        }
        return SweepResult.of(restored(arrays, lanes.one()))

    def how_to_go_on(self) -> str:
        return (
            f"Finished chunks are kept in {self._folder}. Call the same sweep again to compute the "
            "missing ones."
        )


@contextlib.contextmanager
def opened(
    store: str | os.PathLike[str] | SweepStore | None, plan: Plan, chunk_size: int | None
) -> Iterator[MemorySink | StoreSink]:
    """Sink of a sweep, locked while the sweep writes."""
    if store is None:
        yield MemorySink(plan)
        return
    if not isinstance(store, SweepStore):
        store = SweepStore(store)
    folder = folder_at(store.url)
    with folder.lock():
        yield StoreSink(plan, *prepare(folder, store, plan.lanes, plan.width, chunk_size))
