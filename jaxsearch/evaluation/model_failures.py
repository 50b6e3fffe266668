"""Answers that a model server failed to give; they are excluded from all metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxsearch.evaluation.prediction_log import Key
from jaxsearch.json_lines import replace_lines

FILE_NAME = "failures.jsonl"


class ModelFailedError(RuntimeError):
    """A model server did not answer."""


class Failure(NamedTuple):
    """A missing answer and the reason."""

    key: Key
    reason: str


def write_failures(folder: Path, failures: Sequence[Failure]) -> None:
    """Writes `failures.jsonl`, or removes that of an earlier command."""
    path = folder / FILE_NAME
    if not failures:
        path.unlink(missing_ok=True)
        return
    replace_lines(
        path,
        (
            {
                "set": key.set_name,
                "id": key.question_id,
                "sample": key.sample,
                "reason": reason,
            }
            for key, reason in failures
        ),
    )


def check_some_answers(failures: Sequence[Failure], num_answers: int) -> None:
    """Checks that there is at least one answer.

    Raises:
      ModelFailedError: if there is none.
    """
    if len(failures) == num_answers:
        raise ModelFailedError(f"no question was answered: {_first(failures)}")


def check_failures(
    failures: Sequence[Failure], num_allowed: int, num_answers: int
) -> None:
    """Checks that no more answers failed than allowed.

    Raises:
      ModelFailedError: if more failed.
    """
    if len(failures) > num_allowed:
        raise ModelFailedError(
            f"the model server failed to give {len(failures)} of {num_answers} "
            f"answers: {_first(failures)}. They are excluded from all metrics, and "
            f"{FILE_NAME} has the reasons; the same command retries them, and "
            f"--allow-failures {len(failures)} accepts them as missing"
        )


def _first(failures: Sequence[Failure]) -> str:
    key, reason = failures[0]
    return f"question {key.question_id!r:.80}: {reason}"
