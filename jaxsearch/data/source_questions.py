"""Checks of questions that `read_questions` makes of a file, for other questions."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxsearch.bad_rows import BadRows, Note
from jaxsearch.data.answer_fields import usable_answers
from jaxsearch.data.question import Question


def check_ids(questions: Sequence[Question], origin: str) -> None:
    """Checks that questions have different ids, by which their answers are kept.

    Args:
      questions: the questions.
      origin: where the questions come from, for the error.

    Raises:
      ValueError: if two have the same id.
    """
    counts = Counter(question.id for question in questions)
    twice = [id_ for id_, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            f"{origin}: {counts[twice[0]]} questions have the id {twice[0]!r:.100}; "
            "give each question its own, because answers are kept by these ids"
        )


def check_answers(
    questions: Sequence[Question],
    *,
    normalise: Callable[[str], str],
    skip_bad_rows: bool,
    note: Note,
    origin: str = "data.source",
) -> list[Question]:
    """The questions without golden answers that no answer can equal.

    Args:
      questions: the questions.
      normalise: the normaliser that predictions are compared with.
      skip_bad_rows: whether to continue without questions that have no other answer.
      note: receives lines for the user about what was left out.
      origin: where the questions come from, for these lines.

    Raises:
      ValueError: if questions have no other answer and are not skipped; the message
        names them.
    """
    bad, left_out, kept = BadRows(Path(origin), len(questions)), [], []
    for question in questions:
        answers = question.golden_answers
        usable = usable_answers(answers, normalise)
        if not usable:
            why = f"every one of {list(answers)!r:.80} is empty once normalised"
            bad.add(
                f"{origin}, question {question.id!r:.80}: expected golden answers, "
                f"{why if answers else 'got none'}"
            )
            continue
        if len(usable) < len(answers):
            left_out += [(question.id, one) for one in answers if one not in usable]
            question = dataclasses.replace(question, golden_answers=usable)
        kept.append(question)
    bad.settle(skip=skip_bad_rows, note=note)
    if left_out:
        id_, answer = left_out[0]
        note(
            f"{origin}: golden answers that are empty once normalised were left out: "
            f"{len(left_out):,}, such as {answer!r:.80} of question {id_!r:.80}"
        )
    return kept
