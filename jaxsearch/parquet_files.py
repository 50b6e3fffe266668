"""Rows of parquet files of other people, read in batches; every fault is named."""

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
      columns: the columns to read, of which the file may lack some; None for all.

    Raises:
      ValueError: if pyarrow is missing; or if the file is damaged or has values that
        Python has not, which the error locates.
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
    # Dates beyond the year 9999 overflow; ns of a timestamp are a ValueError.
    except (pyarrow.ArrowException, OSError, OverflowError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}, after row {number}: not a readable parquet file ({reason:.200})"
        ) from error
