"""Rows of CSV and TSV files, which begin with a line of column names.

Their values are texts. Golden answers (`golden_answers`, `answer` or `answer_aliases`)
are one answer, or several as a JSON list: "Ann" or "[""Ann"", ""Anne""]". `metadata` is
a JSON object. A column without a value is one that the row does not have.
"""

import contextlib
import csv
import io
from collections.abc import Iterator
from typing import Any

from jaxsearch.bad_rows import BadRowError
from jaxsearch.json_files import json_value

_QUESTION = "question"
_ANSWERS = ("golden_answers", "answer", "possible_answers")
_MAYBE_LISTS = ("golden_answers", "answer", "answer_aliases")
_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}


def table_rows(
    path: str, text: str, delimiter: str
) -> Iterator[tuple[int, dict[str, Any] | BadRowError]]:
    """Yields the number of each row's first line, and the row or what is wrong with it.

    Quotes are those of CSV: a quoted value may have line breaks.

    Args:
      path: the file, for error messages.
      text: its content.
      delimiter: the character between values.

    Raises:
      ValueError: if the first line does not name the columns of questions.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, BadRowError(f"{path}:{number}: not CSV: {error}")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if not names:
            names = [cell.strip() for cell in cells]
            _check_names(names, f"{path}:{number}", delimiter)
        elif len(cells) != len(names):
            yield (
                number,
                BadRowError(
                    f"{path}:{number}: expected {len(names)} columns, as in the line "
                    f"of column names, got {len(cells)}"
                ),
            )
        else:
            cells_by_name = dict(zip(names, cells, strict=True))
            yield number, _row(f"{path}:{number}", cells_by_name)


def _check_names(names: list[str], where: str, delimiter: str) -> None:
    """Checks that columns are those of questions.

    Raises:
      ValueError: if they are not, or one is there twice.
    """
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise ValueError(
            f"{where}: the column {twice[0]!r:.80} is there twice; rename one"
        )
    if _QUESTION in names and any(name in names for name in _ANSWERS):
        return
    advice = ""
    for other, said in _DELIMITERS.items():
        if len(names) == 1 and other != delimiter and other in names[0]:
            advice = (
                f"; the values seem to be separated by {said}: save the file with "
                f"{_DELIMITERS[delimiter]}"
            )
    raise ValueError(
        f"{where}: expected a line of column names with `question` and "
        f"`golden_answers` or `answer` (and `id`, if there are ids), got "
        f"{', '.join(names)!r:.100}{advice}"
    )


def _row(where: str, cells: dict[str, str]) -> dict[str, Any] | BadRowError:
    """The fields of a row, with lists and objects in place of their JSON."""
    fields: dict[str, Any] = {k: text for k, text in cells.items() if text.strip()}
    for name in _MAYBE_LISTS:
        text = fields.get(name, "").strip()
        if not (text.startswith("[") and text.endswith("]")):
            continue
        try:
            fields[name] = json_value(text)
        except ValueError:
            return BadRowError(
                f"{where}: `{name}` must be one answer, or a JSON list such as "
                f'["Ann", "Anne"], got {text!r:.80}'
            )
    with contextlib.suppress(ValueError):
        # What is no object is reported as a malformed field by the reader.
        fields |= {"metadata": json_value(fields.get("metadata", ""))}
    return fields
