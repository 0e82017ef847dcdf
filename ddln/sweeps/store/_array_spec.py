"""Schema of an array in a store, and its validation."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ddln.sweeps.store._variables import MISSING, is_plain

DTYPES = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))
DTYPES += ("float16", "float32", "float64")
# Far more than any sweep needs: larger sizes come from an attack or a damaged file.
MOST_METADATA = 2**24
MOST_CHUNK_BYTES = 2**34
MOST_ENTRIES = 2**60

CRC_BYTES = 4
# A value of each kind of dtype for the lanes that were not computed yet.
FILL = {"f": float("nan"), "i": MISSING, "u": 0, "b": False}


@dataclass(frozen=True)
class ArraySpec:
    """Schema of one array: a Zarr v3 array of numbers in uncompressed chunks, each with its CRC32C.

    Without compression each chunk file has a known size, which reveals a file that was cut off.

    Attributes:
        dims: names of the dimensions.
        shape: sizes of the dimensions.
        chunk: shape of a chunk.
        dtype: of the entries.
        attrs: attributes of the array.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: str
    attrs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, name: str, text: bytes) -> "ArraySpec":
        """Read the metadata of an array, and refuse all that this package does not write.

        Raises:
            ValueError: if anything in the metadata differs from the form that this package writes.
        """

        def need(fine: bool, what: str) -> None:
            require(fine, f"The array {name!r} of the store has {what}.")

        need(len(text) <= MOST_METADATA, "metadata that are too long")
        data = parse_json(text, name)
        need(data.get("zarr_format") == 3 and data.get("node_type") == "array", "another format")
        dtype: Any = data.get("data_type")
        need(dtype in DTYPES, f"entries of type {dtype!r}, which is not a plain number")
        shape: Any = data.get("shape")
        dims: Any = data.get("dimension_names")
        need(_are_sizes(shape) and math.prod(shape) <= MOST_ENTRIES, f"the shape {shape}")
        need(are_plain(dims) and len(dims) == len(shape), f"the dimensions {dims}")
        grid = data.get("chunk_grid")
        settings = grid.get("configuration") if isinstance(grid, dict) else None
        chunk: Any = settings.get("chunk_shape") if isinstance(settings, dict) else None
        regular = {"name": "regular", "configuration": {"chunk_shape": chunk}}
        fine = grid == regular and _are_sizes(chunk) and len(chunk) == len(shape)
        need(fine, f"the chunk grid {grid}")
        itemsize = np.dtype(dtype).itemsize
        need(math.prod(chunk) * itemsize <= MOST_CHUNK_BYTES, f"chunks of shape {chunk}")
        keys = data.get("chunk_key_encoding")
        slashes = {"name": "default", "configuration": {"separator": "/"}}
        need(keys in ({"name": "default"}, slashes), f"the chunk keys {keys}")
        plain = [[{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]]
        plain += [[{"name": "bytes"}, {"name": "crc32c"}]] if itemsize == 1 else []
        need(data.get("codecs") in plain, f"the codecs {data.get('codecs')}")
        need(not data.get("storage_transformers"), "storage transformers")
        need(isinstance(data.get("attributes", {}), dict), "attributes of another form")
        return cls(tuple(dims), tuple(shape), tuple(chunk), dtype, data.get("attributes", {}))

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk's file."""
        return math.prod(self.chunk) * np.dtype(self.dtype).itemsize + CRC_BYTES

    def create(self, group: Any, name: str) -> Any:
        """Create the array in a Zarr group."""
        from zarr.codecs import Crc32cCodec

        return group.create_array(
            name,
            shape=self.shape,
            chunks=self.chunk,
            dtype=self.dtype,
            fill_value=FILL[np.dtype(self.dtype).kind],
            filters=None,
            compressors=[Crc32cCodec()],
            dimension_names=self.dims,
            attributes=self.attrs,
        )


def parse_json(text: bytes, name: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: if the text is no JSON, or no object.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"The metadata of {name!r} in the store cannot be read: {error}."
        ) from None
    require(isinstance(data, dict), f"The metadata of {name!r} in the store are not an object.")
    return data


def require(fine: bool, message: str) -> None:
    """Raise ValueError with this message, unless the metadata are fine."""
    if not fine:
        raise ValueError(message)


def are_plain(names: Any) -> bool:
    """True for a list of plain names."""
    return isinstance(names, list) and all(
        isinstance(name, str) and is_plain(name) for name in names
    )


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 32
        and all(type(size) is int and 0 < size <= MOST_ENTRIES for size in value)
    )
