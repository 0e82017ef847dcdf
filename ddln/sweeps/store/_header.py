"""Metadata of a store, read and validated."""

from dataclasses import dataclass
from typing import Any

from ddln.sweeps.store._array_spec import MOST_METADATA, ArraySpec, are_plain, parse_json, require
from ddln.sweeps.store._folder import AbstractFolder
from ddln.sweeps.store._grid import Grid
from ddln.sweeps.store._variables import MARK, decoded, meanings

FORMAT = 1
ROOT = "zarr.json"
# Arrays of every store: name, dtype if there is only one, and dimensions after those of the lanes.
NEEDED = (
    (MARK, "int32", ()),
    ("okay", "bool", ()),
    ("time", None, ("save",)),
    ("loss", None, ("save",)),
)


@dataclass(frozen=True)
class Header:
    """Metadata of a store.

    Attributes:
        attrs: attributes of the group, decoded: `versions`, `sweeps` (their configurations and
            fingerprints), ...
        grid: the lanes.
        dims: names of the dimensions of the grid.
        specs: the arrays with lanes, by name.
        labels: the other arrays, each of which labels the dimension it is named after.
    """

    attrs: dict[str, Any]
    grid: Grid
    dims: tuple[str, ...]
    specs: dict[str, ArraySpec]
    labels: dict[str, ArraySpec]

    @classmethod
    def read(cls, folder: AbstractFolder, sizes: dict[str, int]) -> "Header":
        """Read and validate the metadata.

        Raises:
            ValueError: if they are not those of a store that this package wrote.
        """
        foreign = f"{folder} is not empty, and holds no store of sweeps. Choose another place."
        require(ROOT in sizes, foreign if sizes else f"There is no store at {folder}.")
        attrs = _root(folder, sizes)
        arrays = {
            name: ArraySpec.parse(name, _read(folder, sizes, f"{name}/{ROOT}"))
            for name in _names(attrs, sizes)
        }
        dims = tuple(attrs["dims"])
        count = len(dims)
        specs = {
            name: spec
            for name, spec in arrays.items()
            if spec.dims[:count] == dims and spec.dims != (name,)
        }
        for name, dtype, inner in NEEDED:
            spec = specs.get(name)
            fine = spec is not None and spec.dims == (*dims, *inner) and dtype in (spec.dtype, None)
            require(fine, f"The store at {folder} has no {name!r} for its lanes.")
        texts = meanings(specs[MARK].attrs)
        fine = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        require(fine, f"The store at {folder} does not say what its result codes mean.")
        grid = Grid(specs[MARK].shape, specs[MARK].chunk)
        require(grid.is_consecutive, f"The store at {folder} has chunks of shape {grid.chunk}.")
        for name, spec in specs.items():
            fine = spec.shape[:count] == grid.sizes
            fine = fine and spec.chunk == (*grid.chunk, *spec.shape[count:])
            require(fine, f"The array {name!r} of the store does not fit the others.")
        labels = {name: spec for name, spec in arrays.items() if name not in specs}
        known = dimension_sizes(specs)
        for name, spec in labels.items():
            fine = spec.dims == (name,) and spec.shape == (known.get(name),)
            require(fine, f"The array {name!r} of the store does not label a dimension.")
        return cls(attrs, grid, dims, specs, labels)


def dimension_sizes(specs: dict[str, ArraySpec]) -> dict[str, int]:
    """Size of each dimension of these arrays."""
    return {
        dim: size
        for spec in specs.values()
        for dim, size in zip(spec.dims, spec.shape, strict=True)
    }


def _root(folder: AbstractFolder, sizes: dict[str, int]) -> dict[str, Any]:
    data = parse_json(_read(folder, sizes, ROOT), ROOT)
    attrs: Any = data.get("attributes")
    fine = data.get("zarr_format") == 3 and data.get("node_type") == "group"
    require(fine, f"{folder} is not a Zarr group of format 3.")
    require(isinstance(attrs, dict) and "ddln_format" in attrs, _without_attributes(folder, sizes))
    attrs = decoded(attrs)
    form: Any = attrs["ddln_format"]
    dims: Any = attrs.get("dims")
    sweeps: Any = attrs.get("sweeps")
    require(
        form == FORMAT,
        f"The store at {folder} has the format {form!r}, and this version of ddln reads {FORMAT}.",
    )
    fine = are_plain(dims) and len(dims) == len(set(dims)) > 0
    require(fine, f"The store at {folder} has the dimensions {dims}.")
    fine = isinstance(attrs.get("versions"), dict) and isinstance(sweeps, dict)
    fine = fine and all(
        isinstance(sweep, dict)
        and isinstance(sweep.get("configuration"), dict)
        and isinstance(sweep.get("fingerprint"), str)
        for sweep in sweeps.values()
    )
    require(fine, f"The store at {folder} does not say what was computed.")
    return attrs


def _without_attributes(folder: AbstractFolder, sizes: dict[str, int]) -> str:
    """The message on a group without the attributes of a store."""
    text = f"{folder} is not a store of sweeps"
    if f"{MARK}/{ROOT}" not in sizes:
        return f"{text}, or it was left unfinished as it was created. Choose another place."
    names = sorted(key.removesuffix(f"/{ROOT}") for key in sizes if key.endswith(f"/{ROOT}"))
    return (
        f"{text} any more: its group has lost the attributes by which one is known. Its arrays, "
        f"{', '.join(names)}, are as they were, and `xarray.open_zarr` reads them. `to_zarr(mode='a')` of "
        "xarray replaces attributes: put those of `xarray.open_zarr(store)` on a dataset that adds an array."
    )


def _names(attrs: dict[str, Any], sizes: dict[str, int]) -> list[str]:
    """Names of the store's own arrays; arrays that others added are left out.

    A store without a list of its arrays, from before there was one, owns all.
    """
    names = sorted(key.removesuffix(f"/{ROOT}") for key in sizes if key.endswith(f"/{ROOT}"))
    own = attrs.get("arrays", names)
    require(are_plain(own), f"The store has arrays at {own}, which are not all plain names.")
    return [name for name in names if name in own]


def _read(folder: AbstractFolder, sizes: dict[str, int], key: str) -> bytes:
    fine = sizes[key] <= MOST_METADATA
    require(fine, f"The metadata {key} of the store have {sizes[key]} bytes.")
    return folder.read(key)
