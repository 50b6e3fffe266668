"""Golden answers of a record, in the layouts of several datasets."""

import dataclasses
import reprlib
from collections.abc import Callable, Iterable

from jaxsearch.bad_rows import BadRowError
from jaxsearch.data.fields import Record
from jaxsearch.json_files import json_value

# TriviaQA's answer to the questions of its test set.
_UNKNOWN = "<unk>"


def golden_answers(record: Record, normalise: Callable[[str], str]) -> tuple[str, ...]:
    """The golden answers of a record.

    Those that are empty once normalised, such as "A", are left out and added to
    `record.empty_answers`, because no prediction can equal them.

    Args:
      record: the record.
      normalise: the normaliser that predictions are compared with.

    Raises:
      BadRowError: if there is none, or one is malformed.
    """
    name, answers = _all_answers(record)
    kept = usable_answers(answers, normalise)
    if not kept:
        raise BadRowError(
            f"{record.where}: every answer in `{name}` is empty once normalised (for "
            f"example without articles and punctuation): {reprlib.repr(answers)}"
        )
    if len(kept) < len(answers):
        record.empty_answers.extend(
            (record.where, answer) for answer in answers if answer not in kept
        )
    return kept


def usable_answers(
    answers: Iterable[str], normalise: Callable[[str], str]
) -> tuple[str, ...]:
    """The answers that are not empty once normalised."""
    return tuple(answer for answer in answers if normalise(answer).strip())


def _all_answers(record: Record) -> tuple[str, list[str]]:
    """The field that has the golden answers of a record, and the answers."""
    fields = record.fields
    if "reward_model" in fields:
        truth = _object(record, "reward_model")
        if isinstance(truth.fields.get("ground_truth"), dict):
            return "target", _object(truth, "ground_truth").texts("target")
        return "ground_truth", truth.texts("ground_truth")
    if "golden_answers" in fields:
        return "golden_answers", record.texts("golden_answers")
    if "possible_answers" in fields:
        return "possible_answers", _of_popqa(record)
    if "answer" not in fields:
        raise BadRowError(
            f"{record.where}: expected a field `golden_answers` or `answer`, got the "
            f"fields {sorted(fields)!r:.80}"
        )
    if isinstance(fields["answer"], dict):
        answers = _of_triviaqa(record)
    else:
        answers = record.texts("answer") + _aliases(record, "answer_aliases")
    return "answer", list(dict.fromkeys(answers))


def _object(record: Record, name: str) -> Record:
    value = record.require(name)
    if not isinstance(value, dict):
        raise record.wrong(name, "an object", value)
    return record.part(name)


def _of_popqa(record: Record) -> list[str]:
    """PopQA's answers, which are a list written as JSON text."""
    value = record.fields["possible_answers"]
    if isinstance(value, str):
        try:
            value = json_value(value)
        except ValueError:
            raise record.wrong(
                "possible_answers", "a list of texts, or one as JSON text", value
            ) from None
    fields = record.fields | {"possible_answers": value}
    return dataclasses.replace(record, fields=fields).texts("possible_answers")


def _of_triviaqa(record: Record) -> list[str]:
    answer = _object(record, "answer")
    value = answer.fields.get("value")
    preferred = [] if value in (None, "", _UNKNOWN) else [answer.text("value")]
    answers = preferred + _aliases(answer, "aliases")
    if not answers:
        raise record.wrong(
            "answer", "an object with a `value`", record.fields["answer"]
        )
    return answers


def _aliases(record: Record, name: str) -> list[str]:
    """Other spellings, which are not needed; malformed ones are left out."""
    value = record.fields.get(name)
    if value is None or value == []:
        return []
    try:
        return record.texts(name)
    except BadRowError:
        record.left_out[name] += 1
        return []
