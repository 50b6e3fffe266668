"""`jaxsearch select`: training questions by the number of tries a policy needs."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jaxsearch import json_lines, processes
from jaxsearch.config import EnvironmentFunction, RLStage, RunConfig
from jaxsearch.data.question import Question
from jaxsearch.data.selection import (
    Bounds,
    Difficulty,
    counts,
    difficulties,
    question_line,
    tries_line,
)
from jaxsearch.env.search import search_only
from jaxsearch.evaluation.settings import check_settings, read_settings, write_settings
from jaxsearch.evaluation.tries import Criterion, SelectionFailedError, Tries, call_size
from jaxsearch.local_paths import check_local
from jaxsearch.models.transformer import Params
from jaxsearch.rewards.tasks import Task
from jaxsearch.run.build import Run
from jaxsearch.run.config_record import identity
from jaxsearch.run.config_values import recorded
from jaxsearch.run.fingerprint import fingerprint
from jaxsearch.run.folder_use import used_alone
from jaxsearch.run.loading import open_anywhere, policy_params, with_policy
from jaxsearch.run.process_agreement import check_same
from jaxsearch.served.model import ServedModel, with_served_policy
from jaxsearch.served.run import ServedRun, open_served

# Fields of a config that decide the tries.
_FIELDS = ("seed", "model", "retrieval", "rollout", "environment")


def select_to(
    out: Path,
    config: RunConfig,
    *,
    model: str | ServedModel,
    bounds: Bounds,
    criterion: Criterion,
    limit: int = 0,
    checkpoint: str = "",
    finishing: Callable[..., contextlib.AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Any]:
    """Writes `tries.jsonl`, `selected.jsonl` and `counts.json`; returns the counts.

    Rollouts are recorded in `calls.jsonl` and not repeated when the command resumes or
    is run again with other bounds.

    Args:
      out: folder to write; it must be new, empty, or of the same selection.
      config: config with the training questions; rollouts use its last RL stage.
      model: the policy: a run's folder, a Hugging Face folder or id, or a served
        model.
      bounds: number of tries, and bounds of the questions to keep.
      criterion: the criterion for a right answer.
      limit: number of questions, from the first; 0 for all.
      checkpoint: best, last or a step, as in `run.loading.load_run`.
      finishing: context that receives a function which releases the folder, to be
        called in another thread before the process is ended early.

    Raises:
      ValueError: for invalid input; raised before anything is written.
      SelectionFailedError: if a search or the model's server failed, or no question
        is kept.
      TryAgainError: if another process selects in the folder.
    """
    check_local(out, "the folder of a selection (--out)")
    if limit < 0:
        raise ValueError(f"--limit must not be negative, got {limit}")
    # Two processes would append to the same file of calls.
    with used_alone(out, finishing, "selects"):
        return _select(out, config, model, bounds, criterion, limit, checkpoint)


def _select(
    out: Path,
    config: RunConfig,
    model: str | ServedModel,
    bounds: Bounds,
    criterion: Criterion,
    limit: int,
    checkpoint: str,
) -> dict[str, Any]:
    """`select_to`, in a folder that no other process selects in."""
    stage = _rl_stage(config)
    run = _open(dataclasses.replace(config, out=str(out)), model)
    questions = run.inputs.questions[stage.name][: limit or None]
    if not questions:
        raise ValueError(
            "this config has no training questions: give a file with --data.questions"
        )
    run.environments.check_search()
    settings = {
        "tries": bounds.tries,
        **dataclasses.asdict(criterion),
        "from": run.name if isinstance(run, ServedRun) else model,
        **_settings(run.config, stage, questions),
    }
    check_same(settings, "settings")
    _check_folder(out, settings)  # early, because loading a policy takes long
    params, settings["policy"] = _policy(run, model, checkpoint)
    _check_folder(out, settings)
    # No process writes to the folder before every process has checked it.
    processes.wait_for_all("checked")
    if processes.is_primary():
        write_settings(out, settings)
    tries = Tries(
        run, _rl_stage(run.config), params, questions, criterion, out / "calls.jsonl"
    )
    found = difficulties(questions, tries.until_right(bounds.tries))
    if processes.is_primary():
        _write(out, found, bounds, settings)
    processes.wait_for_all("selected")
    return {"out": str(out), **_counted(out, found, bounds)}


def _open(config: RunConfig, model: str | ServedModel) -> Run | ServedRun:
    """Opens a config with another policy, for all of its training questions.

    Also those are tried that a run would hold out.
    """
    data = dataclasses.replace(config.data, heldout_share=0.0)
    config = dataclasses.replace(config, data=data)
    if isinstance(model, ServedModel):
        return open_served(model, with_served_policy(config, model))
    return open_anywhere(with_policy(config, model))


def _policy(
    run: Run | ServedRun, model: str | ServedModel, checkpoint: str
) -> tuple[Params, str]:
    """The parameters of the policy, none for a served one, and what identifies it."""
    if isinstance(run, ServedRun):
        return {}, f"{run.name} on a server"
    params = policy_params(run, str(model), checkpoint)
    return params, fingerprint(params)


def _write(
    out: Path, found: list[Difficulty], bounds: Bounds, settings: dict[str, Any]
) -> None:
    """Writes the files of a finished selection."""
    kept = [one for one in found if bounds.is_kept(one.tries_until_right)]
    json_lines.replace_lines(out / "tries.jsonl", map(tries_line, found))
    json_lines.replace_lines(out / "selected.jsonl", map(question_line, kept))
    whole = {
        **counts(found, bounds),
        "bounds": dataclasses.asdict(bounds),
        "settings": settings,
    }
    json_lines.replace_json(out / "counts.json", whole)


def _counted(out: Path, found: list[Difficulty], bounds: Bounds) -> dict[str, Any]:
    """The counts of a finished selection.

    Raises:
      SelectionFailedError: if no question is kept.
    """
    counted = counts(found, bounds)
    if not counted["kept"]:
        raise SelectionFailedError(
            f"no question is within these bounds, so {out}/selected.jsonl is empty; "
            f"choose other bounds from the numbers of tries in {out}/counts.json "
            "(no rollout is repeated)"
        )
    return counted


def _rl_stage(config: RunConfig) -> RLStage:
    """The last RL stage of a config, whose settings the tries use."""
    stages = [stage for stage in config.stages if isinstance(stage, RLStage)]
    if not stages:
        raise ValueError(
            "select uses the settings of an RLStage, but this config has none; add one"
        )
    return stages[-1]


def _settings(
    config: RunConfig, stage: RLStage, questions: Sequence[Question]
) -> dict[str, Any]:
    """The parts of a config that affect the tries, as JSON values."""
    fields = identity(config)
    digest = hashlib.sha256()
    for question in questions:
        line = json.dumps(dataclasses.asdict(question), sort_keys=True)
        digest.update(f"{line}\n".encode())
    settings = {
        "questions": {"n": len(questions), "digest": digest.hexdigest()[:16]},
        "recipe": recorded(stage.task, Task),
        "temperature": stage.temperature,
        "call_size": call_size(stage),
        **{name: fields[name] for name in _FIELDS},
    }
    # Through JSON, so that tuples and lists compare equal.
    return json.loads(json.dumps(settings))


def _check_folder(out: Path, settings: dict[str, Any]) -> None:
    """Checks that the folder is new, empty, or holds a selection with these settings.

    Raises:
      ValueError: if it is not; the error states the first difference.
    """
    there = read_settings(out, "selection")
    if there is None:
        return
    # Selections of earlier versions recorded no environment; they had this one.
    there.setdefault("environment", recorded(search_only, EnvironmentFunction))
    if "policy" not in settings:
        there.pop("policy", None)
    check_settings(out, there, settings, "selection")
