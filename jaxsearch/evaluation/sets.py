"""Evaluation of several sets of questions in one queue, written to a folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxsearch import processes
from jaxsearch.data.source_questions import check_ids
from jaxsearch.evaluation.answer_table import read_answers
from jaxsearch.evaluation.missing_answers import MissingAnswers
from jaxsearch.evaluation.model_failures import (
    Failure,
    check_failures,
    check_some_answers,
)
from jaxsearch.evaluation.options import ONE_GREEDY, AnswerOptions
from jaxsearch.evaluation.predictions import write_results
from jaxsearch.evaluation.question_sets import QuestionSet
from jaxsearch.evaluation.set_results import results_of_sets
from jaxsearch.evaluation.settings import claim_evaluation
from jaxsearch.evaluation.subject import Subject
from jaxsearch.run.process_agreement import check_same


def evaluate_sets(
    out: Path,
    subject: Subject,
    sets: Sequence[QuestionSet],
    answers: AnswerOptions = ONE_GREEDY,
) -> dict[str, Any]:
    """Evaluates sets of questions; writes `predictions.jsonl` and `results.json`.

    All sets share one queue, so slots never wait between sets. Predictions are appended
    to the file as rollouts finish. After a stop, the same call continues: it rolls out
    only the answers that have no line yet. The processes of a run share the questions,
    and all of them return the results.

    An answer that a model server failed to give has no prediction and is excluded from
    all metrics. `failures.jsonl` has the reasons, and the same call retries it.

    Args:
      out: output folder: new, empty, or of the same evaluation.
      subject: the policy to evaluate.
      sets: the sets, with different names.
      answers: answers per question, temperature, and what is kept.

    Returns:
      The contents of `results.json`.

    Raises:
      ValueError: if there are no questions, two of a set have the same id, or the
        folder holds something else.
      ModelFailedError: if more answers failed; the rest is written first.
    """
    if not sets or not all(one.questions for one in sets):
        raise ValueError("expected at least one question in each set to evaluate on")
    for one in sets:
        check_ids(one.questions, f"the set {one.name}")
    settings = {
        **subject.identity,
        "recipe": subject.task.name,
        "questions": [dataclasses.asdict(one.record()) for one in sets],
        "samples": answers.num_samples,
        "temperature": answers.sampling_temperature,
        **({"keeps_tokens": True} if answers.keeps_tokens else {}),
    }
    check_same(settings, "settings")
    processes.on_primary(lambda: claim_evaluation(out, settings, subject.labels))
    missing = MissingAnswers(out, subject, sets, answers)
    failures = missing.roll_out()
    check_some_answers(failures, missing.num_all)
    results: dict[str, Any] = {}
    if processes.is_primary():
        results = _results(out, subject, sets, answers, failures)
        write_results(out, results)
    check_failures(failures, answers.allowed_failures, missing.num_all)
    return processes.broadcast_from_primary(results)


def _results(
    out: Path,
    subject: Subject,
    sets: Sequence[QuestionSet],
    answers: AnswerOptions,
    failures: Sequence[Failure],
) -> dict[str, Any]:
    """The results of the folder's predictions, with the labels of the evaluation."""
    found = read_answers(out / "predictions.jsonl", subject.task.normalise)
    labels = dict(subject.labels)
    if "ids" in labels:
        labels["ids"] &= all(one.have_ids for one in found.values())
    results = {
        **labels,
        "recipe": subject.task.name,
        "questions": _sources(sets),
        "temperature": answers.sampling_temperature,
        **({"num_model_failed": len(failures)} if failures else {}),
        **results_of_sets(found),
    }
    for one in sets:
        if one.name in results["sets"]:
            chosen = {"of": one.num_all, "sample_seed": one.seed}
            results["sets"][one.name] |= chosen
    return results


def _sources(sets: Sequence[QuestionSet]) -> str | dict[str, str]:
    """The source of each set by its name, or that of the only set."""
    sources = {one.name: one.source or "the run's own" for one in sets}
    return sources if len(sources) > 1 else next(iter(sources.values()))
