"""Reads predictions from a file of `jaxsearch eval` or another program."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxsearch.bad_rows import Note
from jaxsearch.bounded_files import MAX_BYTES, CutOffError, read_lines
from jaxsearch.json_files import json_value
from jaxsearch.verdicts.verdict import Verdict, verdict_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """One line of a file.

    Attributes:
      line: its number, counted from 1.
      id: the question's id, of any type; None if the line has none.
      prediction: the answer; "" if the policy gave none.
      fields: all fields of the line.
    """

    line: int
    id: Any
    question: str
    golden_answers: tuple[str, ...]
    prediction: str
    fields: dict[str, Any]


def read_predictions(path: Path, note: Note) -> list[Prediction]:
    """The predictions in a JSONL file, which may be gzipped.

    An incomplete last line, from a killed command or an incomplete download, is left
    out with a note.

    Raises:
      ValueError: for any other malformed line, or a file without predictions.
    """
    found: list[Prediction] = []
    for number, text, is_last in _numbered(path, note):
        where = f"{path}, line {number}"
        try:
            fields = json_value(text)
        except ValueError as error:
            if is_last and not text.endswith(b"\n"):
                note(f"{where}: cut in the middle; it was left out")
                break
            raise ValueError(f"{where}: not a line of JSON: {error}") from None
        found.append(_prediction(fields, number, where))
    if not found:
        raise ValueError(f"{path} has no predictions")
    return found


def verdicts_in(
    predictions: Sequence[Prediction], field: str, path: Path
) -> dict[int, Verdict]:
    """The verdicts in a field of the file, by line.

    Raises:
      ValueError: if a line lacks the field, or its value is not a verdict.
    """
    found = {}
    for one in predictions:
        where = f"{path}, line {one.line}"
        if field not in one.fields:
            raise ValueError(
                f"{where}: there is no field {field!r} to compare with; its fields are "
                f"{', '.join(one.fields):.500}"
            )
        try:
            found[one.line] = verdict_of(one.fields[field])
        except ValueError as error:
            raise ValueError(f"{where}, field {field!r}: {error}") from None
    return found


def _numbered(path: Path, note: Note) -> Iterator[tuple[int, bytes, bool]]:
    """Number and text of each line that is not blank, and whether it is the last."""
    before: tuple[int, bytes] | None = None
    try:
        for number, text in read_lines(path, max_bytes=MAX_BYTES):
            if not text.strip():
                continue
            if before is not None:
                yield *before, False
            before = number, text
    except CutOffError:
        note(f"{path}: the compressed file is cut off")
    if before is not None:
        yield *before, True


def _prediction(fields: Any, number: int, where: str) -> Prediction:
    """The prediction of a line.

    Raises:
      ValueError: if a field is missing or of another type.
    """
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: expected an object, got {fields!r:.40}")
    for name in ("question", "golden_answers", "prediction"):
        if name not in fields:
            raise ValueError(
                f"{where}: {name!r} is missing; its fields are {', '.join(fields):.500}"
            )
    question, golds, prediction = (
        fields[name] for name in ("question", "golden_answers", "prediction")
    )
    is_list = isinstance(golds, list) and all(isinstance(g, str) for g in golds)
    if not is_list or not golds:
        raise ValueError(
            f"{where}: expected texts in golden_answers, got {golds!r:.80}"
        )
    if not isinstance(question, str) or not isinstance(prediction, str | None):
        raise ValueError(
            f"{where}: expected a text as question, and a text or null as prediction, "
            f"got {question!r:.40} and {prediction!r:.40}"
        )
    return Prediction(
        line=number,
        id=fields.get("id"),
        question=question,
        golden_answers=tuple(golds),
        prediction=(prediction or "").strip(),
        fields=fields,
    )
