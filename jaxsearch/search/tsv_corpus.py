"""Rows of tab-separated corpora: two columns, or DPR's three with quotes as in CSV."""

import csv
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_TWO = ("id", "text")
_DPR = ("id", "text", "title")


class TsvRow(NamedTuple):
    """A row, which has several lines if a cell in quotes has line breaks.

    Attributes:
      first_line: number of its first line, from 1.
      last_line: number of its last line.
      cells: texts by column: `id`, `text` and perhaps `title`.
      fault: why the row is bad; "" if it is not.
    """

    first_line: int
    last_line: int
    cells: dict[str, str]
    fault: str = ""


def tsv_rows(lines: Iterable[str]) -> Iterator[TsvRow]:
    """Yields the rows of a tab-separated corpus; blank lines are skipped.

    The first row decides how the others are read. A header names the columns (`id`,
    `text` or `contents`, and perhaps `title`). Without one, three columns are DPR's
    `id`, `text` and `title`, and two are `id` and `text`. A file with a header or three
    columns is CSV: a cell may be in quotes, with each quote in it doubled. The text of
    R1-Searcher's files, which have two columns and no header, is kept unchanged.
    """
    numbered = enumerate(lines, start=1)
    first = next((pair for pair in numbered if pair[1].strip()), None)
    if first is None:
        return
    number, line = first
    rest = (line for _, line in numbered)
    header = _header(line)
    if header:
        yield from _quoted_rows(rest, header, number)
    elif _width(line) == len(_DPR):
        yield from _quoted_rows(itertools.chain([line], rest), _DPR, number - 1)
    else:
        yield from _plain_rows(itertools.chain([line], rest), number - 1)


def _header(line: str) -> tuple[str, ...]:
    """The columns that a line of headers names; empty for any other line."""
    names = [cell.strip().strip('"').lower() for cell in line.split("\t")]
    names = ["text" if name == "contents" else name for name in names]
    return tuple(names) if sorted(names) in (sorted(_TWO), sorted(_DPR)) else ()


def _width(line: str) -> int:
    """The number of cells in a line, with quotes as in CSV if it can be read so."""
    try:
        return len(next(csv.reader([line], delimiter="\t", strict=True)))
    except csv.Error:
        return line.count("\t") + 1


def _plain_rows(lines: Iterator[str], num_before: int) -> Iterator[TsvRow]:
    for number, line in enumerate(lines, start=num_before + 1):
        line = line.rstrip("\r\n")
        if line.strip():
            yield _row(number, number, line.split("\t"), _TWO)


def _quoted_rows(
    lines: Iterator[str], columns: tuple[str, ...], num_before: int
) -> Iterator[TsvRow]:
    """Rows of CSV.

    Args:
      lines: lines without a header.
      columns: names of the columns.
      num_before: number of lines that were read before.
    """
    reader = csv.reader(lines, delimiter="\t", strict=True)
    while True:
        first = num_before + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = (
                f"malformed quotes ({error}); a cell that begins with a quote must end "
                "with one, and quotes inside it must be doubled"
            )
            yield TsvRow(first, num_before + reader.line_num, {}, fault)
            continue
        if "".join(cells).strip():
            yield _row(first, num_before + reader.line_num, cells, columns)


def _row(
    first_line: int, last_line: int, cells: list[str], columns: tuple[str, ...]
) -> TsvRow:
    named = dict(zip(columns, cells, strict=False))
    fault = ""
    if len(cells) != len(columns) or not named["id"].strip():
        got = "\t".join(cells)
        fault = (
            f"expected {'<TAB>'.join(columns)}, {len(columns)} columns, got "
            f"{len(cells)}: {got[:60]!r}"
        )
    return TsvRow(first_line, last_line, named, fault)
