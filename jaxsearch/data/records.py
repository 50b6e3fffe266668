"""Reads objects from JSONL, JSON, CSV, TSV and parquet files, with their locations."""

import codecs
import os
import pathlib
import reprlib
from collections.abc import Iterator
from typing import NamedTuple

from jaxsearch.bad_rows import BadRowError, BadRows
from jaxsearch.bounded_files import read_bytes
from jaxsearch.data.table_rows import table_rows
from jaxsearch.json_files import json_value
from jaxsearch.parquet_files import parquet_rows

TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
SUFFIXES = (
    *(".jsonl", ".jsonl.gz", ".json", ".json.gz"),
    *TABLE_SUFFIXES,
    ".parquet",
)


class FileRow(NamedTuple):
    """One object of a file.

    Attributes:
      number: number of its line, item or row, from 1.
      where: its location for error messages, with the name of the file.
      value: the object, or why it cannot be read.
    """

    number: int
    where: str
    value: object


def read_records(path: pathlib.Path, bad_rows: BadRows) -> Iterator[FileRow]:
    """Yields the JSON objects of a file and collects other rows in `bad_rows`.

    JSON may be one array or, as in JSONL, one object per line; blank lines are skipped.
    CSV and TSV begin with a line of column names; `table_rows` describes them.
    A byte order mark at the beginning of a line is not part of it: files that were
    joined have one in the middle. Parquet needs pyarrow.

    Raises:
      ValueError: if the file is missing, has another suffix, or cannot be divided into
        rows.
    """
    if not path.name.endswith(SUFFIXES):
        raise ValueError(
            f"{path}: expected a file ending in {', '.join(SUFFIXES)}; "
            "rename or convert it"
        )
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise ValueError(f"{path}: no such file; check the path")
    read = _json_rows
    if path.suffix == ".parquet":
        read = _parquet_rows
    elif path.name.endswith(TABLE_SUFFIXES):
        read = _table_rows
    for row in read(path):
        bad_rows.num_rows += 1
        if isinstance(row.value, BadRowError):
            bad_rows.add(row.value)
        elif isinstance(row.value, dict):
            yield row
        else:
            bad_rows.add(
                f"{row.where}: expected a JSON object, got {reprlib.repr(row.value)}"
            )


def _json_rows(path: pathlib.Path) -> Iterator[FileRow]:
    raw = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    if raw.lstrip().startswith(b"["):
        yield from _array_items(path, raw)
        return
    # splitlines would also split at U+2028 and others, which JSON strings may contain.
    for number, line in enumerate(raw.split(b"\n"), start=1):
        line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip():
            where = f"{path}:{number}"
            yield FileRow(number, where, _json_value(line, where))


def _json_value(line: bytes, where: str) -> object:
    """The value on a line, or why it cannot be read."""
    try:
        return json_value(line.decode())
    except UnicodeDecodeError as error:
        return BadRowError(f"{where}: not UTF-8 ({error.reason}); convert the file")
    except ValueError as error:
        return BadRowError(
            f"{where}: malformed JSON: {error}; expected one object per line"
        )


def _array_items(path: pathlib.Path, raw: bytes) -> Iterator[FileRow]:
    text = _decoded(path, raw)
    try:
        array = json_value(text)
    except ValueError as error:
        raise ValueError(f"{path}: malformed JSON array: {error}") from None
    for number, value in enumerate(array, start=1):
        yield FileRow(number, f"{path}, item {number}", value)


def _table_rows(path: pathlib.Path) -> Iterator[FileRow]:
    raw = read_bytes(path)
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path}:1: UTF-16, expected UTF-8; save it as `CSV UTF-8`")
    text = _decoded(path, raw.removeprefix(codecs.BOM_UTF8))
    delimiter = "," if path.name.endswith((".csv", ".csv.gz")) else "\t"
    for number, value in table_rows(str(path), text, delimiter):
        yield FileRow(number, f"{path}:{number}", value)


def _decoded(path: pathlib.Path, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}:{line}: not UTF-8 ({error.reason}); convert the file"
        ) from error


def _parquet_rows(path: pathlib.Path) -> Iterator[FileRow]:
    for number, row in enumerate(parquet_rows(path), start=1):
        # None means that this row does not have the column.
        present = {name: value for name, value in row.items() if value is not None}
        yield FileRow(number, f"{path}, row {number}", present)
