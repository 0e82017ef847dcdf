"""Apache Parquet and Feather, through the optional dependency pyarrow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddln.problems._table import Columns, kept_columns


def read_parquet(file: Path, drop: Sequence[str]) -> Columns:
    """Read a Parquet or a Feather file, or a folder of Parquet files.

    Missing values become NaN. The index of a pandas frame, as the metadata name it, is no column.
    """
    try:
        import pyarrow as pa
        from pyarrow import feather, parquet
    except ImportError as error:
        raise ImportError(
            "Reading Parquet needs pyarrow, which the extra `data` installs: "
            "pip install 'ddln[data]'."
        ) from error
    kind = "Parquet" if file.is_dir() or file.suffix.lower() == ".parquet" else "Feather"
    try:
        if kind == "Feather":
            table = feather.read_table(file)
        else:
            # A lone file is read without its path, in which a folder "a=1" would count as a column.
            table = parquet.read_table(file) if file.is_dir() else parquet.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"Argument `file` must be an intact {kind} file, but {file} cannot be read: {error}"
        ) from None
    return arrow_columns(file, table, drop)


def arrow_columns(source: Any, table: Any, drop: Sequence[str]) -> Columns:
    """The columns of an Arrow table."""
    import pyarrow as pa

    # Entries of a range index, which has no column, are dictionaries.
    index = [
        name
        for name in (table.schema.pandas_metadata or {}).get("index_columns", ())
        if isinstance(name, str)
    ]
    table = table.drop_columns([name for name in index if name in table.column_names])
    table = table.select(kept_columns(source, table.column_names, drop))
    columns = []
    for place, field in enumerate(table.schema):
        data = table.column(place)
        # Categories, and columns in the names of folders, come as dictionaries of their values.
        if pa.types.is_dictionary(field.type):
            data = data.cast(field.type.value_type)
        columns.append(_column(source, field.name, data))
    return Columns(source, tuple(table.column_names), tuple(columns))


def _column(source: Any, name: str, data: Any) -> np.ndarray:
    from pyarrow import types

    kind = data.type
    numeric = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal)
    if any(is_kind(kind) for is_kind in numeric):
        return data.to_numpy().astype(np.float64)
    if types.is_date(kind) or types.is_timestamp(kind):
        return data.to_numpy().astype("datetime64[us]")
    if types.is_string(kind) or types.is_large_string(kind):
        return np.asarray([*data.to_pylist(), None], object)[:-1]
    raise ValueError(
        f"Argument `file` must hold numbers, texts or dates, but {source}, column `{name}` has type "
        f"{kind}. Leave it out with `drop`."
    )
