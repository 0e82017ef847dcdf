"""Apache Parquet, through the optional dependency pyarrow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddln.problems._table import Table, kept_columns


def read_parquet(file: Path, drop: Sequence[str]) -> Table:
    """Read a Parquet file, or a folder of such files, whose columns are all numbers.

    Missing values become NaN. The index of a pandas frame, as the metadata name it, is no column.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            "Reading Parquet needs pyarrow, which the extra `data` installs: "
            "pip install 'ddln[data]'."
        ) from error
    try:
        # A lone file is read without its path, in which a folder "a=1" would count as a column.
        table = parquet.read_table(file) if file.is_dir() else parquet.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"Argument `file` must be an intact Parquet file, but {file} cannot be read: {error}"
        ) from None
    # Entries of a range index, which has no column, are dictionaries.
    index = [
        name
        for name in (table.schema.pandas_metadata or {}).get("index_columns", ())
        if isinstance(name, str)
    ]
    table = table.drop_columns([name for name in index if name in table.column_names])
    kept = kept_columns(file, table.column_names, drop)
    table = table.select(kept)
    values = np.empty((table.num_rows, table.num_columns))
    for column, field in enumerate(table.schema):
        data = table.column(column)
        # Columns in the names of folders come as dictionaries of their values.
        if pa.types.is_dictionary(field.type):
            data = data.cast(field.type.value_type)
        if not _is_numeric(data.type):
            raise ValueError(
                f"Argument `file` must hold numbers, but {file}, column `{field.name}` has type "
                f"{field.type}. Encode it as numbers, or leave it out with `drop`."
            )
        values[:, column] = data.to_numpy().astype(np.float64)
    return Table(file, tuple(table.column_names), values)


def _is_numeric(kind) -> bool:
    from pyarrow import types

    numeric = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal)
    return any(is_kind(kind) for is_kind in numeric)
