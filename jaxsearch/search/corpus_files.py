"""Rows of corpus files: JSONL, tab-separated text (both may be gzipped) and parquet."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxsearch.bad_rows import BadRowError, BadRows
from jaxsearch.bounded_files import read_lines
from jaxsearch.json_files import json_value
from jaxsearch.parquet_files import parquet_rows
from jaxsearch.search.tsv_corpus import tsv_rows
from jaxsearch.surrogates import check_text

CORPUS_SUFFIXES = (".jsonl", ".jsonl.gz", ".tsv", ".tsv.gz", ".parquet")
_COLUMNS = ("id", "contents", "title", "text")


class CorpusRow(NamedTuple):
    """One row of a corpus file.

    Attributes:
      number: line number of the row, from 1; in parquet, its own number.
      id: None if the row has no usable id.
      contents: title and text, in the form of `Passage.contents`.
    """

    number: int
    id: str | None
    contents: str


def read_corpus_rows(path: Path, bad_rows: BadRows) -> Iterator[CorpusRow]:
    """Yields the rows of a corpus file and collects the bad ones in `bad_rows`.

    `passages.read_passages` describes the formats. A byte order mark at the beginning
    of a line is not part of its text: files that were joined have one in the middle.

    Raises:
      ValueError: if the file is missing, damaged, or has another suffix.
    """
    if not path.name.endswith(CORPUS_SUFFIXES):
        raise ValueError(
            f"{path}: expected a corpus named *{', *'.join(CORPUS_SUFFIXES)}, got "
            f"{path.name!r}; rename the file by its format"
        )
    rows = _json_rows
    if path.name.endswith((".tsv", ".tsv.gz")):
        rows = _tsv_rows
    elif path.name.endswith(".parquet"):
        rows = _parquet_rows
    for row in rows(path):
        bad_rows.num_rows += 1
        if isinstance(row, BadRowError):
            bad_rows.add(row)
        else:
            yield row


def corpus_shards(path: Path) -> list[Path]:
    """The files of a corpus: the file itself, or all corpus files of a folder.

    Files of a folder are in the order of the numbers in their names: part-2 comes
    before part-10.

    Raises:
      ValueError: if the folder has no corpus file.
    """
    if not path.is_dir() or path.name.endswith(CORPUS_SUFFIXES):
        return [path]
    shards = [
        one
        for one in path.iterdir()
        if one.name.endswith(CORPUS_SUFFIXES) and not one.name.startswith(".")
    ]
    if not shards:
        raise ValueError(
            f"{path}: expected a folder of corpus files named "
            f"*{', *'.join(CORPUS_SUFFIXES)}, found none of them"
        )

    def in_numbers(path: Path) -> list[tuple[int, str]]:
        parts = re.findall(r"(\d+)|(\D+)", path.name)
        return [(int(digits or 0), other) for digits, other in parts]

    return sorted(shards, key=in_numbers)


def titled_contents(title: str, text: str) -> str:
    """The contents of a passage with a title.

    The first line of `contents` is the title, so a title must not have line breaks.
    """
    return f'"{" ".join(title.split())}"\n{text}'


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    for number, raw in read_lines(path):
        yield number, raw.removeprefix(codecs.BOM_UTF8)


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise BadRowError(
            f"{where}: expected UTF-8, got byte 0x{error.object[error.start]:02x} at "
            f"column {error.start + 1}"
        ) from error


def _tsv_rows(path: Path) -> Iterator[CorpusRow | BadRowError]:
    lines = (raw.decode(errors="surrogateescape") for _, raw in _raw_lines(path))
    for first, last, cells, fault in tsv_rows(lines):
        lines_of_row = f"line {first}" if first == last else f"lines {first}-{last}"
        fault = fault or _decoding_fault(cells)
        if fault:
            yield BadRowError(f"{path}, {lines_of_row}: {fault}")
            continue
        contents = cells["text"]
        if "title" in cells:
            contents = titled_contents(cells["title"], contents)
        yield CorpusRow(first, cells["id"].strip(), contents)


def _decoding_fault(cells: dict[str, str]) -> str:
    """Why the bytes of a row are not text; "" if they are."""
    for text in cells.values():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            # How Python decodes a byte that is not UTF-8.
            byte = ord(text[error.start]) - 0xDC00
            return f"expected UTF-8, got byte 0x{byte:02x}"
    return ""


def _json_rows(path: Path) -> Iterator[CorpusRow | BadRowError]:
    for number, raw in _raw_lines(path):
        if not raw.strip():
            continue
        try:
            row = _json_row(number, raw, f"{path}, line {number}")
        except BadRowError as error:
            yield error
        else:
            yield row


def _parquet_rows(path: Path) -> Iterator[CorpusRow | BadRowError]:
    for number, fields in enumerate(parquet_rows(path, _COLUMNS), start=1):
        try:
            row = _fields_row(number, fields, f"{path}, row {number}")
        except BadRowError as error:
            yield error
        else:
            yield row


def _json_row(number: int, raw: bytes, where: str) -> CorpusRow:
    line = _decoded(raw, where)
    try:
        fields = json_value(line)
    except ValueError as error:
        raise BadRowError(
            f"{where}: expected one JSON object, got {line[:60]!r} ({error})"
        ) from error
    if not isinstance(fields, dict):
        raise BadRowError(
            f"{where}: expected a JSON object, got {type(fields).__name__}"
        )
    return _fields_row(number, fields, where)


def _fields_row(number: int, fields: dict, where: str) -> CorpusRow:
    id_ = _id(fields, where)
    if fields.get("contents") is not None:
        return CorpusRow(number, id_, _string(fields, "contents", where))
    title, text = (_string(fields, name, where) for name in ("title", "text"))
    return CorpusRow(number, id_, titled_contents(title, text))


def _id(fields: dict, where: str) -> str | None:
    """The id of a row; None if it is missing, or neither an integer nor a text."""
    value = fields.get("id")
    # isinstance would accept a bool as an int.
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value.strip():
        return None
    return _string(fields, "id", where)


def _string(fields: dict, name: str, where: str) -> str:
    if name not in fields:
        raise BadRowError(
            f'{where}: field "{name}" is missing; expected "contents", or "title" and '
            f'"text", got {sorted(fields)!s:.300}'
        )
    value = fields[name]
    if not isinstance(value, str):
        raise BadRowError(
            f'{where}: field "{name}" must be a string, got '
            f"{type(value).__name__} {value!r:.60}"
        )
    try:
        check_text(value, f'{where}: field "{name}"')
    except ValueError as error:
        raise BadRowError(str(error)) from None
    return value
