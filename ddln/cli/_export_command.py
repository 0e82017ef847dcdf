"""`ddln export`: the results of a sweep in other formats, chunk by chunk where a format allows it."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas
import xarray
from rich.text import Text

from ddln.cli._console import console
from ddln.cli._flows import STATUSES
from ddln.cli._options import ExportOptions
from ddln.cli._output import STORE
from ddln.cli._places import store_at
from ddln.sweeps import SweepStore
from ddln.sweeps.store import decoded

ENDINGS = {"csv": ".csv", "parquet": ".parquet", "netcdf": ".nc"}


def run(options: ExportOptions) -> None:
    """Write the file, under its name only when it is whole."""
    store = store_at(options.store)
    write: Callable[[SweepStore, Path], None] = {
        "csv": _csv,
        "parquet": _parquet,
        "netcdf": _netcdf,
    }[options.to]
    out = options.out or Path(_name(store.url) + ENDINGS[options.to])
    if out.exists() and not options.overwrite:
        raise ValueError(f"{out} exists. Choose another file with --out, or pass --overwrite.")
    status = store.status()
    if not status.done:
        raise ValueError(f"No flow of the store at {store.url} is finished.")
    part = out.with_name(f"{out.name}.part")
    try:
        write(store, part)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    missing = f", without {status.missing} that are missing" if status.missing else ""
    parts = f"Wrote {status.done} flows{missing} to ", (str(out), "bold"), "."
    console().print(Text.assemble(*parts))


def _name(url: str) -> str:
    """The name of the run whose store it is, or else that of the store."""
    path = PurePosixPath(url) if "://" in url else Path(url).resolve()
    return path.parent.name if path.name == STORE and path.parent.name else path.stem


def rows(block: xarray.Dataset) -> pandas.DataFrame:
    """A row for each flow and time saved; checks in words, coordinates by the names of the features."""
    features = decoded(block.attrs).get("features", ())
    flow_dims = tuple(str(dim) for dim in block["result"].dims)
    sizes = tuple(block.sizes[dim] for dim in flow_dims)
    saves = block.sizes["save"]
    columns: dict[str, Any] = {}
    grid = np.meshgrid(*(_labels(block, dim) for dim in flow_dims), indexing="ij")
    for dim, labels in zip(flow_dims, grid, strict=True):
        columns[dim] = np.repeat(labels.ravel(), saves)
    columns["save"] = np.tile(_labels(block, "save"), np.prod(sizes))
    for name, variable in ((str(key), value) for key, value in block.data_vars.items()):
        dims = tuple(str(dim) for dim in variable.dims)
        inner = tuple(dim for dim in dims if dim not in (*flow_dims, "save"))
        values = variable.transpose(*flow_dims, *(("save",) if "save" in dims else ()), *inner)
        array = values.to_numpy().reshape(-1, *(block.sizes[dim] for dim in inner))
        if "save" not in dims:
            array = np.repeat(array, saves, axis=0)
        if name.startswith("check_") and "codes of checks" in block.attrs:
            # The last word is for the code -1 of flows that are missing.
            array = np.asarray([*STATUSES, ""])[array]
        for index in np.ndindex(*array.shape[1:]):
            named = name == "theta" and len(index) == 1 and index[0] < len(features)
            column = "_".join(map(str, (name, *((features[index[0]],) if named else index))))
            columns[column] = array[(slice(None), *index)]
    return pandas.DataFrame(columns)


def _labels(block: xarray.Dataset, dim: str) -> np.ndarray:
    return block[dim].to_numpy()


def _tables(store: SweepStore) -> Iterator[pandas.DataFrame]:
    return map(rows, store.blocks())


def _csv(store: SweepStore, file: Path) -> None:
    for number, table in enumerate(_tables(store)):
        table.to_csv(file, mode="a" if number else "w", header=not number, index=False)


def _parquet(store: SweepStore, file: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f'Parquet needs pyarrow: pip install "ddln[data]" ({error})') from error
    tables = (pyarrow.Table.from_pandas(table, preserve_index=False) for table in _tables(store))
    first = next(tables)
    with pyarrow.parquet.ParquetWriter(file, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _netcdf(store: SweepStore, file: Path) -> None:
    data = store.to_xarray()
    if all(importlib.util.find_spec(name) is not None for name in ("h5netcdf", "h5py")):
        data.to_netcdf(file, engine="h5netcdf")
        return
    # The format of SciPy's writer has no integers of 64 bits, and no files beyond some GiB.
    try:
        data.to_netcdf(file, engine="scipy")
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f'These results do not fit in netCDF 3. Install netCDF 4: pip install "ddln[data]" ({error})'
        ) from error
