"""Apache Parquet, through the optional dependency pyarrow."""

from pathlib import Path

import numpy as np

from ddln.problems._table import Table, require_columns


def read_parquet(file: Path) -> Table:
    """Reads a Parquet file whose columns are all numbers; missing values become NaN."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            "Reading Parquet needs pyarrow, which the extra `data` installs: "
            "pip install 'ddln[data]'."
        ) from error
    try:
        table = parquet.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"Argument `file` must be an intact Parquet file, but {file} cannot be read: {error}"
        ) from None
    require_columns(file, table.column_names)
    numeric = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
    )
    for field in table.schema:
        if not any(kind(field.type) for kind in numeric):
            raise ValueError(
                f"Argument `file` must hold numbers, but {file}, column `{field.name}` has type "
                f"{field.type}."
            )
    values = np.empty((table.num_rows, table.num_columns))
    for column, data in enumerate(table.columns):
        values[:, column] = data.to_numpy().astype(np.float64)
    return Table(file, tuple(table.column_names), values)
