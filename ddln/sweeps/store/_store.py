"""A store of sweeps: a Zarr group that grows chunk by chunk and survives whatever happens to its writer."""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from ddln.sweeps.store._folder import AbstractFolder, folder
from ddln.sweeps.store._grid import Grid
from ddln.sweeps.store._header import Header
from ddln.sweeps.store._variables import MARK, is_plain

PACKAGES = ("ddln", "jax", "jaxlib", "equinox", "diffrax", "numpy")


@dataclass(frozen=True)
class SweepStatus:
    """How far a store is.

    Attributes:
        lanes: how many lanes it has place for.
        done: how many were computed, failed ones among them.
        failed: how many failed, by reason.
        damaged: names of files that are cut off or do not match their checksum; their chunks count as
            missing. Calling the sweep again computes those that are cut off; delete the others first.
        sweeps: the fingerprint of each sweep in it, by its labels.
        versions: what it was begun with.
    """

    lanes: int
    done: int
    failed: dict[str, int]
    damaged: tuple[str, ...]
    sweeps: dict[str, str]
    versions: dict[str, str]

    @property
    def missing(self) -> int:
        """How many lanes are still to be computed."""
        return self.lanes - self.done


class SweepStore:
    """Where sweeps keep their results: a Zarr v3 group on a disk or in an object store.

    A chunk of lanes is computed, written, and then marked as done, so that the store can be read at every
    moment and a sweep that was stopped, by whatever, computes only the missing chunks when it is called
    again with the same arguments. The results then equal, byte for byte, those of a sweep that was not
    stopped, on the same machine and with the same versions. A store with other data or settings is
    refused, never overwritten.

    The arrays are `time` and `loss` [lanes, save], `theta` [lanes, save, coordinate] (or [..., row,
    column]), what `observe` returned, numbers of steps, `okay` and `result` (-1 where a lane is
    missing). Read them with `xarray.open_zarr(url)`. Labels, units, configuration, versions and
    fingerprint are in the attributes. Chunk files are not compressed and end with a checksum.

    Example (three depths in one store, two starts at each of 64 scales):
        >>> labels = {"depth": [2, 3, 4], "scale": np.geomspace(0.01, 1, 64)}
        >>> store = ddln.SweepStore("results.zarr", ("depth", "initialization", "scale"), labels)
        >>> for depth in (2, 3, 4):
        ...     starts = ddln.Initializations(rule(depth), 2 * 64)
        ...     ddln.sweep(starts, loss, 100.0, store=store.at(depth=depth))
        >>> store.to_xarray()["loss"].sel(depth=3).isel(save=-1)

    One process writes at a time: a lock beside the store, `url.lock`, names it. On a local disk the lock
    ends with its process. A URL has no such lock: there, one of a dead process on the same machine is
    taken over, and two processes that start in the same instant are not kept apart.

    Args:
        url: a path, or a URL that fsspec understands (`s3://...`, `gs://...`, `memory://...`).
        dims: names of the dimensions that the lanes unfold to, in C order.
        coords: labels: numbers for each entry of a dimension, with or without lanes. All of `dims` but
            the innermost one without `at` need some; one may do without, its size is what remains.
        attrs: further attributes of the store, as JSON.

    Raises:
        ValueError: for names and labels that do not fit.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        dims: Sequence[str] = ("initialization",),
        coords: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ):
        self.url = os.fspath(url)
        self.dims = tuple(dims)
        self.coords = {name: np.asarray(labels) for name, labels in (coords or {}).items()}
        self.attrs = dict(attrs or {})
        self.where: dict[str, Any] = {}
        if (
            not self.dims
            or len(set(self.dims)) < len(self.dims)
            or not all(map(is_plain, self.dims))
        ):
            raise ValueError(
                "Argument `dims` must be different names made of letters, digits and underscores, but "
                f"it is {self.dims}."
            )
        for name, labels in self.coords.items():
            if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "biuf":
                raise ValueError(
                    f"Argument `coords` must hold lists of numbers, but {name!r} has shape "
                    f"{labels.shape} and dtype {labels.dtype}."
                )
        json.dumps(self.attrs)

    def at(self, **where: Any) -> "SweepStore":
        """The part of the store with these labels, for one sweep among several.

        Args:
            where: a label for each of the first dimensions.

        Raises:
            ValueError: if these are not the first dimensions, or there is no such label.
        """
        part = SweepStore(self.url, self.dims, self.coords, self.attrs)
        part.where = {name: where[name] for name in self.dims if name in where}
        if tuple(part.where) != self.dims[: len(where)] or len(where) >= len(self.dims):
            raise ValueError(
                f"Arguments must name the first of the dimensions {self.dims}, but not all, and they "
                f"name {tuple(where)}."
            )
        for name, label in part.where.items():
            found = self.coords.get(name, np.zeros(0))
            if not np.any(found == label):
                raise ValueError(f"There is no {name} {label} among the labels of the store.")
            # As in the labels: 2.0 and 2 name the same part.
            part.where[name] = found[found == label][0].item()
        return part

    def exists(self) -> bool:
        """Whether there is anything at this place."""
        return bool(folder(self.url).sizes())

    def status(self, *, verify: bool = False) -> SweepStatus:
        """How far the store is.

        Args:
            verify: whether to read all chunks and compare their checksums.

        Raises:
            ValueError: if there is no store, or not one as this package writes it.
        """
        place, sizes, header = self._opened()
        group = self._group(place)
        done, failed, damaged = 0, {}, []
        meanings = dict(enumerate(header.specs[MARK].attrs.get("flag_meanings", ())))
        for chunk in _marked(header, sizes):
            broken = damage(header, sizes, chunk)
            region = header.grid.region(chunk)
            for name in header.specs if verify and not broken else ():
                try:
                    group[name][region]
                except ValueError:
                    broken.append(chunk_key(header, name, chunk))
            damaged += broken
            if broken:
                continue
            start, stop = header.grid.span(chunk)
            done += stop - start
            codes, counts = np.unique(
                group[MARK][region][~group["okay"][region]], return_counts=True
            )
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
                reason = str(meanings.get(code, f"code {code}"))
                failed[reason] = failed.get(reason, 0) + count
        sweeps = {key: sweep["fingerprint"] for key, sweep in header.attrs["sweeps"].items()}
        return SweepStatus(
            header.grid.lanes, done, failed, tuple(damaged), sweeps, header.attrs["versions"]
        )

    def to_xarray(self) -> Any:
        """Opens the store as an `xarray.Dataset` whose arrays are read when they are used.

        Raises:
            ImportError: if xarray is not installed.
            ValueError: if there is no store, or not one as this package writes it.
        """
        try:
            import xarray
        except ImportError as error:
            raise ImportError(
                '`SweepStore.to_xarray` needs xarray. Install it with `pip install "ddln[cli]"`.'
            ) from error
        place, _, _ = self._opened()
        store = place.zarr_store(read_only=True)
        data = xarray.open_zarr(store, zarr_format=3, consolidated=False, chunks=None)
        return data[sorted(map(str, data.data_vars))]

    def blocks(self) -> Iterator[Any]:
        """The finished chunks, one after the other, as `xarray.Dataset`s in memory.

        Raises:
            ImportError: if xarray is not installed.
            ValueError: if there is no store, or not one as this package writes it.
        """
        _, sizes, header = self._opened()
        data = self.to_xarray()
        for chunk in _marked(header, sizes):
            if not damage(header, sizes, chunk):
                region = dict(zip(header.dims, header.grid.region(chunk), strict=True))
                yield data.isel(region).load()

    def _opened(self) -> tuple[AbstractFolder, dict[str, int], Header]:
        place = folder(self.url)
        sizes = place.sizes()
        return place, sizes, Header.read(place, sizes)

    def _group(self, place: AbstractFolder) -> Any:
        import zarr

        store = place.zarr_store(read_only=True)
        return zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=False)


def layout(store: SweepStore, lanes: int, chunk_size: int) -> tuple[Grid, int]:
    """The grid of a store, and the number of the first lane of a part of it.

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


def chunk_key(header: Header, name: str, chunk: int) -> str:
    """The file of a chunk of an array."""
    inner = len(header.specs[name].dims) - len(header.dims)
    return "/".join([name, "c", *map(str, header.grid.index(chunk)), *["0"] * inner])


def _marked(header: Header, sizes: dict[str, int]) -> list[int]:
    """The chunks that are marked as done, by the files there are."""
    counts = header.grid.counts
    found = []
    for key in sizes:
        array, _, index = key.partition("/c/")
        places = index.split("/")
        if array == MARK and len(places) == len(counts) and all(map(str.isdecimal, places)):
            where = tuple(map(int, places))
            if all(i < count for i, count in zip(where, counts, strict=True)):
                found.append(int(np.ravel_multi_index(where, counts)))
    return sorted(found)


def damage(header: Header, sizes: dict[str, int], chunk: int) -> list[str]:
    """The files of a chunk that are missing or have the wrong size."""
    keys = {chunk_key(header, name, chunk): spec for name, spec in header.specs.items()}
    return [key for key, spec in keys.items() if sizes.get(key) != spec.chunk_bytes]


def versions() -> dict[str, str]:
    """What computes here."""
    return {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
