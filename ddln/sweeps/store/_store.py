"""Store of sweeps: a Zarr group that grows chunk by chunk, and survives the death of its writer."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddln.sweeps.store._folder import folder_at
from ddln.sweeps.store._open_store import OpenStore
from ddln.sweeps.store._variables import encoded, is_plain


@dataclass(frozen=True)
class SweepStatus:
    """Progress of a store.

    Attributes:
        lanes: number of lanes that the store has room for.
        done: number of lanes that were computed, failed ones among them.
        failed: number of lanes that failed, by reason.
        damaged: names of files that are cut off or do not match their checksum; their chunks count as
            missing. Calling the sweep again computes those that are cut off; delete the others first.
        sweeps: fingerprint of each sweep in the store, by its labels.
        versions: versions of the packages that it was begun with.
    """

    lanes: int
    done: int
    failed: dict[str, int]
    damaged: tuple[str, ...]
    sweeps: dict[str, str]
    versions: dict[str, str]

    @property
    def missing(self) -> int:
        """Number of lanes that are still to be computed."""
        return self.lanes - self.done


class SweepStore:
    """Place for the results of sweeps: a Zarr v3 group on a disk or in an object store.

    A chunk of lanes is computed, written, and then marked as done, so that the store can be read at every
    moment. A sweep that was stopped, for whatever reason, computes only the missing chunks when it is
    called again with the same arguments. The results then equal, byte for byte, those of an uninterrupted
    sweep on the same machine with the same versions. A store with other data or settings is refused, never
    overwritten.

    The arrays are `time` and `loss` [lanes, save], `theta` [lanes, save, coordinate] (or [..., row,
    column]), the values of `observe`, numbers of steps, `okay` and `result` (-1 where a lane is missing).
    Read them with `xarray.open_zarr(url)`. Labels, units, configuration, versions and fingerprint are in
    the attributes, dictionaries as JSON text. Chunk files are not compressed and end with a checksum.
    Arrays that others add to the group are left alone, and not read.

    Example (three depths in one store, two starts at each of 64 scales):
        >>> labels = {"depth": [2, 3, 4], "scale": np.geomspace(0.01, 1, 64)}
        >>> store = ddln.SweepStore("results.zarr", ("depth", "initialization", "scale"), labels)
        >>> for depth in (2, 3, 4):
        ...     starts = ddln.Initializations(rule(depth), 2 * 64)
        ...     ddln.sweep(starts, loss, 100.0, store=store.at(depth=depth))
        >>> store.to_xarray()["loss"].sel(depth=3).isel(save=-1)

    One process writes at a time: a lock beside the store, `url.lock`, names it. On a local disk the lock
    ends with its process. Its owner counts in it every 5 seconds: the lock of another machine, or at a URL
    or on a file system without locks, is taken over after half a minute without a count, so that a job that
    was killed goes on elsewhere. Without the kernel's lock two processes that start in the same instant
    are not kept apart; equal sweeps write equal chunks.

    Args:
        url: a path (`~` is the home folder), or a URL that fsspec understands (`s3://...`, `gs://...`, `memory://...`).
        dims: names of the dimensions that the lanes unfold to, in C order.
        coords: labels: numbers for each entry of a dimension, with or without lanes. All of `dims` but
            the innermost one without `at` need some; one may do without, its size is what remains.
        attrs: further attributes of the store, plain data. As netCDF has them, lists and dictionaries are
            kept as JSON text.

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
        if not isinstance(url, str | os.PathLike):
            raise ValueError(f"Argument `url` must be a path or a URL, but it is {url!r}.")
        self.url = os.fspath(url)
        if "://" not in self.url:
            self.url = os.path.expanduser(self.url)
        if isinstance(dims, str):
            raise ValueError(
                f"Argument `dims` must be a list of names, but it is {dims!r}: [{dims!r}]."
            )
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
        encoded(self.attrs)

    def at(self, **where: Any) -> "SweepStore":
        """Part of the store with these labels, for one sweep among several.

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
            labels = self.coords.get(name, np.zeros(0))
            if not np.any(labels == label):
                raise ValueError(f"There is no {name} {label} among the labels of the store.")
            # The stored label is the name: 2.0 and 2 mean the same part.
            part.where[name] = labels[labels == label][0].item()
        return part

    def __repr__(self) -> str:
        where = f", at {self.where}" if self.where else ""
        return f"SweepStore({self.url!r}, dims={self.dims}{where})"

    def exists(self) -> bool:
        """True if there is anything at this place."""
        return bool(folder_at(self.url).sizes())

    def status(self, *, verify: bool = False) -> SweepStatus:
        """Count the lanes that are done, failed and missing.

        Args:
            verify: whether to read all chunks and compare their checksums.

        Raises:
            ValueError: if there is no store that this package wrote.
        """
        opened = OpenStore.at(self.url)
        done, failed, damaged = 0, Counter[str](), []
        for chunk in opened.marked():
            broken = opened.damage(chunk) or (opened.corruption(chunk) if verify else [])
            damaged += broken
            if not broken:
                start, stop = opened.grid.span(chunk)
                done += stop - start
                failed += opened.failures(chunk)
        attrs = opened.header.attrs
        sweeps = {key: sweep["fingerprint"] for key, sweep in attrs["sweeps"].items()}
        return SweepStatus(
            opened.grid.lanes, done, dict(failed), tuple(damaged), sweeps, attrs["versions"]
        )

    def to_xarray(self) -> Any:
        """Open the store as an `xarray.Dataset` whose arrays are read when they are used.

        Raises:
            ImportError: if xarray is not installed.
            ValueError: if there is no store that this package wrote.
        """
        return _dataset(OpenStore.at(self.url))

    def blocks(self) -> Iterator[Any]:
        """Finished chunks, one after the other, each an `xarray.Dataset` in memory.

        Raises:
            ImportError: if xarray is not installed.
            ValueError: if there is no store that this package wrote.
        """
        opened = OpenStore.at(self.url)
        data = _dataset(opened)
        for chunk in opened.marked():
            if not opened.damage(chunk):
                region = zip(opened.header.dims, opened.grid.region(chunk), strict=True)
                yield data.isel(dict(region)).load()


def _dataset(opened: OpenStore) -> Any:
    try:
        import xarray
    except ImportError as error:
        raise ImportError(
            '`SweepStore.to_xarray` needs xarray. Install it with `pip install "ddln[cli]"`.'
        ) from error
    store = opened.zarr_store()
    data = xarray.open_zarr(store, zarr_format=3, consolidated=False, chunks=None)
    return data[sorted(map(str, data.data_vars))]
