"""Evaluation of a policy on sets of questions, written to a folder."""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch.config import RunConfig
from jaxsearch.data.question import Question
from jaxsearch.data.records import SUFFIXES
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.prompts import prompt_ids
from jaxsearch.evaluation.question_sets import (
    OWN_QUESTIONS,
    QuestionSet,
    named_sources,
    sample_of,
)
from jaxsearch.evaluation.sets import KIND, Subject, evaluate_sets
from jaxsearch.evaluation.settings import read_settings
from jaxsearch.hub_files import pinned
from jaxsearch.local_paths import check_local
from jaxsearch.models.transformer import Params
from jaxsearch.protocol import Protocol
from jaxsearch.run.build import Run
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.config_record import identity
from jaxsearch.run.fingerprint import fingerprint
from jaxsearch.run.heldout_questions import read_heldout
from jaxsearch.run.inputs import Inputs
from jaxsearch.run.loading import is_run, load_run
from jaxsearch.served.model import ServedModel
from jaxsearch.served.run import ServedRun, load_served

# Config fields that affect the rollouts, apart from those that are fingerprinted.
_FIELDS = ("seed", "retrieval", "rollout", "environment")
# Fields of `rollout` that affect only speed.
_NOT_DECIDING = ("num_slots", "cache_len", "search_calls", "replicas", "tensor")
# The prompt of this question represents all prompts.
_ANY_QUESTION = "Who wrote it?"


def evaluate_to(
    out: Path,
    *,
    model: str | ServedModel,
    questions: str | Sequence[str] = "",
    index: str = "",
    task: str = "",
    limit: int = 0,
    skip_bad_rows: bool = False,
    drop_long_prompts: bool = False,
    sample: int = 0,
    seed: int = 0,
    num_samples: int = 1,
    temperature: float | None = None,
    prompt_template: str = "",
    num_passages: int = 0,
    max_searches: int | None = None,
    checkpoint: str = "",
    keeps_tokens: bool = False,
    allowed_failures: int = 0,
) -> dict[str, Any]:
    """Evaluates a policy and writes `results.json` and `predictions.jsonl` to `out`.

    Predictions are appended as answers finish. If the call is stopped, the same call
    continues.

    Args:
      out: folder to write: new, empty, or of the same evaluation.
      model: a run's folder, a Hugging Face folder or id, or a served model.
      questions: file of questions, local or `hf://OWNER/NAME[/FILE][@REVISION]`, or
        several; `NAME=FILE` names its set. "" for the run's held-out questions.
      index: folder of an index, or address of a search server; "" for the run's index.
      task: name of the task that judges; "" for the run's task.
      limit: questions per set, from the first; 0 for all.
      sample: questions per set, chosen at random; 0 for all.
      seed: seed of the sample.
      num_samples: answers per question.
      skip_bad_rows: whether to skip malformed rows of the file.
      drop_long_prompts: whether to drop questions whose prompts are too long.
      temperature: sampling temperature; 0 is greedy. None for 0, or for 1 with more
        than one answer per question.
      prompt_template: file with a prompt that replaces the task's; "" for none.
      num_passages: passages per search; 0 for the run's number.
      max_searches: searches per answer; None for the run's number.
      checkpoint: best, last or a step, as in `run.loading.load_run`.
      keeps_tokens: whether predictions have token ids and log-probs.
      allowed_failures: answers that a model server may fail to give.

    Returns:
      The contents of `results.json`.

    Raises:
      ValueError: if there are no questions, `out` holds something else, or the policy
        cannot be loaded.
      ModelFailedError: if a model server failed to give more answers than allowed;
        the same call asks for them again.
      TryAgainError: if the model server is down.

    Example:
      >>> from pathlib import Path
      >>> results = jaxsearch.evaluate_to(
      ...     Path("evaluation"), model="runs/quickstart", limit=2
      ... )
      >>> results["n"], sorted(path.name for path in Path("evaluation").iterdir())
      (2, ['predictions.jsonl', 'results.json', 'settings.json'])
    """
    check_local(out, "--out")
    temperature = _temperature(temperature, num_samples)
    if limit < 0 or sample < 0 or (limit and sample):
        raise ValueError(
            "--limit takes the first questions and --sample random ones: give one of "
            f"them, not negative; got {limit} and {sample}"
        )
    if seed and not sample:
        raise ValueError(
            f"--seed {seed} chooses the random questions of --sample, which is missing"
        )
    read_settings(out, KIND)  # early, because loading a policy takes long
    given = [questions] if isinstance(questions, str) else list(questions)
    sources = {
        name: pinned(source, SUFFIXES)
        for name, source in named_sources([text for text in given if text]).items()
    }
    first, *others = sources.values() or [""]
    choices = {
        "task": task,
        "questions": first,
        "index": index,
        "limit": limit,
        "skip_bad_rows": skip_bad_rows,
        "drop_long_prompts": drop_long_prompts,
        "prompt_template": prompt_template,
        "num_passages": num_passages,
        "max_searches": max_searches,
    }
    run, subject_of = _loaded(model, checkpoint, choices)
    further = [read_heldout(run.config, run.inputs, source) for source in others]
    sets = [
        _question_set(name, source, asked, sample, seed)
        for (name, source), asked in zip(
            sources.items() or [(OWN_QUESTIONS, "")],
            [run.inputs.heldout, *further],
            strict=True,
        )
    ]
    num_rollouts = num_samples * sum(len(one.questions) for one in sets)
    return evaluate_sets(
        out,
        subject_of(num_rollouts),
        sets,
        num_samples=num_samples,
        temperature=temperature,
        keeps_tokens=keeps_tokens,
        allowed_failures=allowed_failures,
    )


def _loaded(
    model: str | ServedModel, checkpoint: str, choices: Mapping[str, Any]
) -> tuple[Run | ServedRun, Callable[[int], Subject]]:
    """Loads the run of a policy with the user's options.

    Returns:
      The run, and a function from the number of rollouts to what is evaluated.

    Raises:
      ValueError: if it cannot be loaded, or has no questions.
    """
    if isinstance(model, ServedModel):
        name, run = model.tokenizer, load_served(model, **choices)
        subject = served_subject(run)

        def subject_of(num_rollouts: int) -> Subject:
            return subject  # a server has no local slots

    else:
        name = model
        run, params = load_run(model, checkpoint=checkpoint, **choices)
        subject_of = functools.partial(run_subject, run, params, model, checkpoint)
    if not run.inputs.heldout:
        raise ValueError(
            f"{name} has no held-out questions: give a file with --questions"
        )
    return run, subject_of


def run_subject(
    run: Run, params: Params, model: str, checkpoint: str, num_rollouts: int
) -> Subject:
    """A policy that `load_run` has loaded, with the run's tools and task.

    Args:
      run: the run.
      params: parameters in the layout of rollouts.
      model: what the user called the policy.
      checkpoint: best, last or a step, as in `load_run`.
      num_rollouts: number of rollouts; limits the number of slots.
    """
    labels = {"model": model}
    if is_run(model):
        labels["checkpoint"] = choose_checkpoint(run.config, checkpoint).description
    return Subject(
        sampler=run.sampler_for(num_rollouts),
        params=params,
        environment=run.environments.heldout,
        task=run.task,
        labels=labels,
        identity={"policy": fingerprint(params), **_identity(run.config, run.inputs)},
    )


def served_subject(run: ServedRun) -> Subject:
    """A served model, with the tools and the task of its run."""
    tokenizer = run.inputs.tokenizer.fingerprint
    return Subject(
        sampler=run.sampler,
        params={},
        environment=run.environments.heldout,
        task=run.task,
        labels={
            "model": run.name,
            "model_url": run.client.url,
            "tokenizer": run.model.tokenizer,
            "ids": run.has_ids,
        },
        identity={
            "policy": f"{run.name} on a server, tokenizer {tokenizer}",
            **_identity(run.config, run.inputs),
        },
    )


def _identity(config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """Everything that determines the rollouts of a policy, as JSON values."""
    fields = identity(config)
    fields["rollout"] = {
        name: value
        for name, value in fields["rollout"].items()
        if name not in _NOT_DECIDING
    }
    retrieval = config.retrieval
    return {
        "prompt": _prompt_digest(inputs.tokenizer, inputs.protocol),
        "search_server": retrieval.heldout_url or retrieval.url,
        **{name: fields[name] for name in _FIELDS},
    }


def _temperature(temperature: float | None, num_samples: int) -> float:
    """The temperature of the answers.

    Raises:
      ValueError: if it is invalid, or all answers to a question would be equal.
    """
    if num_samples < 1:
        raise ValueError(f"--samples must be at least 1, got {num_samples}")
    if temperature is None:
        return 1.0 if num_samples > 1 else 0.0
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"--temperature must be finite and not negative, got {temperature}"
        )
    if num_samples > 1 and temperature == 0:
        raise ValueError(
            f"--samples {num_samples} at --temperature 0 would give equal answers; set "
            "a higher temperature, or leave it out for 1"
        )
    return temperature


def _question_set(
    name: str, source: str, questions: list[Question], num_sampled: int, seed: int
) -> QuestionSet:
    """A set of questions, or a random sample of them."""
    asked = sample_of(questions, num_sampled, seed) if num_sampled else questions
    return QuestionSet(
        name=name,
        source=source,
        questions=asked,
        num_all=len(questions),
        seed=seed if num_sampled else None,
    )


def _prompt_digest(tokenizer: Tokenizer, protocol: Protocol) -> str:
    """A digest of the prompt and its tokenization, as 16 hex digits."""
    ids = prompt_ids(tokenizer, protocol, _ANY_QUESTION)
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]
