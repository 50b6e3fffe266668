"""Evaluation of a policy on sets of questions, written to a folder."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jaxsearch.data.records import SUFFIXES
from jaxsearch.evaluation.options import ONE_GREEDY, AnswerOptions
from jaxsearch.evaluation.question_sets import (
    OWN_QUESTIONS,
    named_sources,
    question_set,
)
from jaxsearch.evaluation.sets import evaluate_sets
from jaxsearch.evaluation.settings import EVALUATION, read_settings
from jaxsearch.evaluation.subject import Subject, run_subject, served_subject
from jaxsearch.hub_files import pinned
from jaxsearch.local_paths import check_local
from jaxsearch.run.build import Run
from jaxsearch.run.folder_use import used_alone
from jaxsearch.run.heldout_questions import read_heldout
from jaxsearch.run.loading import load_run
from jaxsearch.run.options import NO_CHANGES, RunOptions
from jaxsearch.served.model import ServedModel
from jaxsearch.served.run import ServedRun, load_served


def evaluate_to(
    out: Path,
    *,
    model: str | ServedModel,
    checkpoint: str = "",
    options: RunOptions = NO_CHANGES,
    sample: int = 0,
    seed: int = 0,
    answers: AnswerOptions = ONE_GREEDY,
    finishing: Callable[..., contextlib.AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Any]:
    """Evaluates a policy and writes `results.json` and `predictions.jsonl` to `out`.

    Predictions are appended as answers finish. If the call is stopped, the same call
    continues.

    Args:
      out: folder to write: new, empty, or of the same evaluation.
      model: a run's folder, a Hugging Face folder or id, or a served model.
      checkpoint: best, last or a step, as in `run.loading.load_run`.
      options: questions, task, index and budgets.
      sample: questions per set, chosen at random; 0 for all.
      seed: seed of the sample.
      answers: answers per question, temperature, and what is kept.
      finishing: context that receives a function which releases the folder, to be
        called in another thread before the process is ended early.

    Returns:
      The contents of `results.json`.

    Raises:
      ValueError: if there are no questions, `out` holds something else, or the policy
        cannot be loaded.
      ModelFailedError: if a model server failed to give more answers than allowed;
        the same call asks for them again.
      TryAgainError: if the model server is down, or another process evaluates in the
        folder.

    Example:
      >>> from pathlib import Path
      >>> few = jaxsearch.RunOptions(limit=2)
      >>> results = jaxsearch.evaluate_to(
      ...     Path("evaluation"), model="runs/quickstart", options=few
      ... )
      >>> results["n"], sorted(path.name for path in Path("evaluation").iterdir())
      (2, ['predictions.jsonl', 'results.json', 'settings.json'])
    """
    check_local(out, "--out")
    _check_choice(options.limit, sample, seed)
    read_settings(out, EVALUATION)  # early, because loading a policy takes long
    # Two processes would append to the same files.
    with used_alone(out, finishing, "evaluates"):
        return _evaluate(out, model, checkpoint, options, sample, seed, answers)


def _evaluate(
    out: Path,
    model: str | ServedModel,
    checkpoint: str,
    options: RunOptions,
    sample: int,
    seed: int,
    answers: AnswerOptions,
) -> dict[str, Any]:
    """`evaluate_to`, in a folder that no other process evaluates in."""
    sources = _sources(options)
    first, *others = sources.values()
    options = dataclasses.replace(options, questions=(first,) if first else ())
    run, subject_of = _loaded(model, checkpoint, options)
    further = [read_heldout(run.config, run.inputs, source) for source in others]
    sets = [
        question_set(name, source, questions, sample, seed)
        for (name, source), questions in zip(
            sources.items(), [run.inputs.heldout, *further], strict=True
        )
    ]
    num_rollouts = answers.num_samples * sum(len(one.questions) for one in sets)
    return evaluate_sets(out, subject_of(num_rollouts), sets, answers)


def _sources(options: RunOptions) -> dict[str, str]:
    """The files of questions by the names of their sets; "" for the run's own."""
    named = named_sources(options.questions)
    pinned_sources = {name: pinned(one, SUFFIXES) for name, one in named.items()}
    return pinned_sources or {OWN_QUESTIONS: ""}


def _check_choice(limit: int, sample: int, seed: int) -> None:
    """Checks the options that choose some of the questions.

    Raises:
      ValueError: if they contradict one another, or have no effect.
    """
    if limit < 0 or sample < 0 or (limit and sample):
        raise ValueError(
            "--limit takes the first questions and --sample random ones: give one of "
            f"them, not negative; got {limit} and {sample}"
        )
    if seed and not sample:
        raise ValueError(
            f"--seed {seed} chooses the random questions of --sample, which is missing"
        )


def _loaded(
    model: str | ServedModel, checkpoint: str, options: RunOptions
) -> tuple[Run | ServedRun, Callable[[int], Subject]]:
    """Loads the run of a policy with the user's options.

    Returns:
      The run, and a function from the number of rollouts to what is evaluated.

    Raises:
      ValueError: if it cannot be loaded, or has no questions.
    """
    if isinstance(model, ServedModel):
        name, run = model.tokenizer, load_served(model, options)
        subject = served_subject(run)

        def subject_of(num_rollouts: int) -> Subject:
            return subject  # a server has no local slots

    else:
        name = model
        run, params = load_run(model, options, checkpoint=checkpoint)
        subject_of = functools.partial(run_subject, run, params, model, checkpoint)
    if not run.inputs.heldout:
        raise ValueError(
            f"{name} has no held-out questions: give a file with --questions"
        )
    return run, subject_of
