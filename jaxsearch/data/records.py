"""Reads JSON objects from JSONL, JSON and parquet files, with their locations."""

import gzip
import json
import pathlib
import reprlib
import zlib
from collections.abc import Iterator

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


def read_records(path: pathlib.Path) -> Iterator[tuple[str, dict]]:
    """Yields (location, object) for each object of a file.

    The location is for error messages and names the file and the line. JSON may be one
    array or, as in JSONL, one object per line; blank lines are skipped. Parquet needs
    pyarrow.

    Raises:
      ValueError: if the file is missing, has another suffix, or is malformed.
    """
    if not path.name.endswith(SUFFIXES):
        raise ValueError(
            f"{path}: expected a file ending in {', '.join(SUFFIXES)}; "
            "rename or convert it"
        )
    if not path.is_file():
        raise ValueError(f"{path}: no such file; check the path")
    read = _parquet_rows if path.suffix == ".parquet" else _json_values
    for where, value in read(path):
        if not isinstance(value, dict):
            raise ValueError(
                f"{where}: expected a JSON object, got {reprlib.repr(value)}"
            )
        yield where, value


def _json_values(path: pathlib.Path) -> Iterator[tuple[str, object]]:
    text = _read_text(path)
    if text.lstrip().startswith("["):
        try:
            array = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}:{error.lineno}: malformed JSON array: {error.msg}"
            ) from error
        for number, record in enumerate(array, start=1):
            yield f"{path}, item {number}", record
        return
    # splitlines would also split at U+2028 and others, which JSON strings may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{where}: malformed JSON: {error.msg} (column {error.colno}); "
                "expected one object per line"
            ) from error
        yield where, record


def _read_text(path: pathlib.Path) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            raw = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}: damaged or truncated gzip file ({error}); fetch it again"
        ) from error
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}:{line}: not UTF-8 ({error.reason}); convert the file"
        ) from error


def _parquet_rows(path: pathlib.Path) -> Iterator[tuple[str, object]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"{path}: reading parquet needs pyarrow; run `pip install pyarrow`"
        ) from error
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: not a readable parquet file ({reason})") from error
    for number, row in enumerate(rows, start=1):
        # None means that this row does not have the column.
        yield (
            f"{path}, row {number}",
            {name: value for name, value in row.items() if value is not None},
        )
