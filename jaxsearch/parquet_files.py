"""Reads untrusted parquet files in batches, with clear errors."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_BATCH_ROWS = 1024  # held in memory at once


def parquet_rows(
    path: Path, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the rows of a file.

    Args:
      path: the file.
      columns: columns to read; missing ones are ignored. None for all.

    Raises:
      ValueError: if pyarrow is missing, or if the file is damaged or has values that
        Python cannot represent; the error has the row.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"{path}: reading parquet needs pyarrow; run `pip install pyarrow`"
        ) from error
    number = 0
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        wanted = None if columns is None else [one for one in columns if one in names]
        for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield row
    # Dates after the year 9999 overflow; nanosecond timestamps raise ValueError.
    except (pyarrow.ArrowException, OSError, OverflowError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}, after row {number}: not a readable parquet file ({reason:.200})"
        ) from error
