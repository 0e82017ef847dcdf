"""State of a store: its chunks, and the sweeps in it."""

import platform
import warnings
from array import array
from collections import Counter
from functools import cached_property
from importlib.metadata import version
from typing import Any

import diffrax
import numpy as np

from ddln.sweeps.store._array_spec import ArraySpec
from ddln.sweeps.store._fingerprint import differences, fingerprint
from ddln.sweeps.store._folder import AbstractFolder, folder_at
from ddln.sweeps.store._grid import Grid
from ddln.sweeps.store._header import Header
from ddln.sweeps.store._variables import MARK, encoded, meanings

PACKAGES = ("ddln", "jax", "jaxlib", "equinox", "diffrax", "numpy")
# A store of an earlier version knows at least these result codes: those of diffrax, and the first three of
# this package. Later versions add codes.
MEANINGS = len(diffrax.RESULTS) + 3
# From a warning in this file to the call of `ddln.sweep`: the sink, a context manager, and the sweep.
STACK = 7


class OpenStore:
    """Store at one moment.

    Attributes:
        folder: the place.
        header: its metadata.
        grid: its lanes.

    Args:
        folder: the place.
        sizes: bytes of each file in it.

    Raises:
        ValueError: if there is no store that this package wrote.
    """

    def __init__(self, folder: AbstractFolder, sizes: dict[str, int]):
        self.folder = folder
        self.header = Header.read(folder, sizes)
        self.grid: Grid = self.header.grid
        self._sizes = sizes

    @classmethod
    def at(cls, url: str) -> "OpenStore":
        """Store at a path or URL."""
        folder = folder_at(url)
        return cls(folder, folder.sizes())

    def zarr_store(self, read_only: bool = True) -> Any:
        """Zarr store of the arrays in the header."""
        from ddln.sweeps.store._own_arrays import OwnArrays

        names = self.header.specs | self.header.labels
        return OwnArrays(self.folder.zarr_store(read_only), names)

    def key(self, name: str, chunk: int) -> str:
        """File of a chunk of an array."""
        inner = len(self.header.specs[name].dims) - len(self.header.dims)
        return "/".join([name, "c", *map(str, self.grid.index(chunk)), *["0"] * inner])

    def read(self, name: str, chunk: int) -> np.ndarray:
        """Entries of a chunk of an array.

        Raises:
            ValueError: if they do not match their checksum.
        """
        return self._group[name][self.grid.region(chunk)]

    def marked(self) -> list[int]:
        """Chunks that are marked as done."""
        counts = self.grid.counts
        chunks = []
        for key in self._sizes:
            name, _, index = key.partition("/c/")
            places = index.split("/")
            if name == MARK and len(places) == len(counts) and all(map(str.isdecimal, places)):
                where = tuple(map(int, places))
                if all(i < count for i, count in zip(where, counts, strict=True)):
                    chunks.append(int(np.ravel_multi_index(where, counts)))
        return sorted(chunks)

    def damage(self, chunk: int) -> list[str]:
        """Files of a chunk that are missing or have the wrong size."""
        keys = {self.key(name, chunk): spec for name, spec in self.header.specs.items()}
        return [key for key, spec in keys.items() if self._sizes.get(key) != spec.chunk_bytes]

    def corruption(self, chunk: int) -> list[str]:
        """Files of a chunk that do not match their checksum."""
        keys = []
        for name in self.header.specs:
            try:
                self.read(name, chunk)
            except ValueError:
                keys.append(self.key(name, chunk))
        return keys

    def failures(self, chunk: int) -> Counter[str]:
        """Number of failed lanes in a chunk, by reason."""
        messages = dict(enumerate(meanings(self.header.specs[MARK].attrs)))
        codes = Counter(self.read(MARK, chunk)[~self.read("okay", chunk)].tolist())
        return Counter({messages.get(code, f"code {code}"): n for code, n in codes.items()})

    def take_missing(self, first: int, lanes: int) -> array:
        """Numbers of the chunks of these lanes that are to be computed; remove damaged ones."""
        start, stop = self.grid.chunk_of(first), self.grid.chunk_of(first + lanes - 1) + 1
        missing, damaged = array("q"), 0
        for chunk in range(start, stop):
            broken, mark = self.damage(chunk), self.key(MARK, chunk)
            if broken and mark in self._sizes:
                damaged += 1
                # The mark goes first.
                for key in (mark, *broken):
                    self.folder.delete(key)
            if broken:
                missing.append(chunk)
        if damaged:
            warnings.warn(
                f"{damaged} chunks of the store at {self.folder} have files that are cut off or "
                "missing; they are computed again.",
                stacklevel=STACK,
            )
        return missing

    def admit(
        self,
        sweep: str,
        specs: dict[str, ArraySpec],
        labels: dict[str, np.ndarray],
        configuration: dict[str, Any],
    ) -> None:
        """Enter a sweep by name with the description of its results, unless it is in the store already.

        Raises:
            ValueError: if the store belongs to another sweep, with the differences.
        """
        header, sweeps = self.header, self.header.attrs["sweeps"]
        old: dict[str, Any] = {"arrays": _described(header.specs | header.labels)}
        new: dict[str, Any] = {"arrays": _described(specs)}
        old["chunk"], new["chunk"] = list(self.grid.chunk), list(specs[MARK].chunk)
        for name, values in labels.items():
            stored = self._group[name][:] if name in header.labels else "absent"
            old[name], new[name] = _comparable(np.asarray(stored)), _comparable(values)
        if sweep in sweeps:
            old["configuration"] = sweeps[sweep]["configuration"]
            new["configuration"] = configuration
        differing = list(differences(old, new))
        changed = list(differences(header.attrs["versions"], versions()))
        if differing:
            raise ValueError(
                f"The store at {self.folder} is of another sweep, and was left as it is. Choose another "
                "place, or call the sweep with the arguments it was begun with. What differs:\n  "
                + "\n  ".join(differing + [f"version of {line}" for line in changed])
            )
        if changed:
            warnings.warn(
                f"The store at {self.folder} was begun with other versions, so that its parts may "
                f"differ in the last digits: {'; '.join(changed)}.",
                stacklevel=STACK,
            )
        if sweep not in sweeps:
            entry = {"configuration": configuration, "fingerprint": fingerprint(configuration)}
            update_attributes(
                self.zarr_store(read_only=False), {"sweeps": {**sweeps, sweep: entry}}
            )

    @cached_property
    def _group(self) -> Any:
        return open_group(self.zarr_store())


def open_group(zarr_store: Any) -> Any:
    """Zarr group of a store, by the metadata of its files."""
    import zarr

    mode = "r" if zarr_store.read_only else "r+"
    return zarr.open_group(zarr_store, mode=mode, zarr_format=3, use_consolidated=False)


def update_attributes(zarr_store: Any, attrs: dict[str, Any]) -> None:
    """Set attributes of a store's group, and bring its consolidated metadata up to date."""
    import zarr

    open_group(zarr_store).attrs.update(encoded(attrs))
    with warnings.catch_warnings():
        # That format 3 does not describe consolidated metadata yet; xarray warns where they are absent.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(zarr_store)


def versions() -> dict[str, str]:
    """Versions of the packages that compute here."""
    return {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}


def _comparable(labels: np.ndarray) -> list[Any]:
    """Labels as a list, in which NaN equals NaN."""
    return ["NaN" if label != label else label for label in labels.tolist()]


def _described(specs: dict[str, ArraySpec]) -> dict[str, Any]:
    """Fields of the schemas that must agree, but for the chunks."""
    return {
        name: {"dims": list(spec.dims), "shape": list(spec.shape), "dtype": spec.dtype}
        | {"meanings": meanings(spec.attrs)[:MEANINGS]}
        for name, spec in specs.items()
    }
