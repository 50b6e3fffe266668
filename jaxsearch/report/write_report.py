"""Writes the report of a run, `report.html` in its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxsearch import json_lines
from jaxsearch.json_files import read_json_object
from jaxsearch.json_types import typed
from jaxsearch.local_paths import check_local
from jaxsearch.monitor.rollout_log import (
    HELDOUT_NAMES,
    LoggedRollout,
    heldout_rollouts_path,
    read_rollouts,
    rollout_files,
)
from jaxsearch.monitor.writers import read_evaluations, read_steps
from jaxsearch.protocol import Protocol
from jaxsearch.report import page as report_page
from jaxsearch.report import trajectories
from jaxsearch.report.charts import stages_of
from jaxsearch.report.heldout import heldout_section
from jaxsearch.report.series import Stage
from jaxsearch.rewards.tasks import Task
from jaxsearch.run.config_values import restored
from jaxsearch.visible import visible

_PROMPT = {"form": str, "num_tokens": int, "prompt": str}
MAX_FILES = 9  # step files of rollouts on the page
MAX_ROLLOUTS = 48  # trajectories per file
MAX_BYTES = 3_000_000  # size of all trajectories on the page, as HTML


class Sample(NamedTuple):
    """The trajectories on the page, and notes about those that were left out."""

    articles: list[str]
    notes: list[str]


def write_report(run_folder: Path) -> Path:
    """Writes the page of a finished or unfinished run.

    Returns:
      The path of the page.

    Raises:
      ValueError: if the folder is not a run folder, or one of its files is malformed.
    """
    config = _read_config(run_folder)
    metrics = read_steps(run_folder / "metrics.jsonl")
    protocol = _protocol(config)
    sample = _sample(run_folder, protocol, stages_of(metrics))
    text = report_page.page(
        name=run_folder.resolve().name,
        config=config,
        metrics=metrics,
        evaluations=read_evaluations(run_folder),
        prompt=_read_prompt(run_folder / "prompt.json"),
        heldout=heldout_section(
            *(_read_heldout(run_folder, name) for name in HELDOUT_NAMES),
            protocol if isinstance(protocol, Protocol) else None,
        ),
        articles=sample.articles,
        notes=sample.notes,
    )
    path = run_folder / "report.html"
    # A policy's text may end inside a character and so contain a lone surrogate.
    json_lines.replace_file(path, visible(text).encode())
    return path


def _read_config(run_folder: Path) -> dict[str, Any]:
    check_local(run_folder, "the run's folder")
    if not run_folder.is_dir():
        raise ValueError(f"{run_folder}: no such run folder")
    path = run_folder / "config.json"
    if not path.exists():
        raise ValueError(
            f"{run_folder} is not a run folder: it has no config.json "
            "(expected the folder that `jaxsearch train` writes)"
        )
    return read_json_object(path)


def _read_heldout(run_folder: Path, name: str) -> list[LoggedRollout]:
    path = heldout_rollouts_path(run_folder, name)
    return read_rollouts(path) if path.exists() else []


def _read_prompt(path: Path) -> dict[str, Any]:
    prompt = read_json_object(path) if path.exists() else {}
    for name, kind in _PROMPT.items() if prompt else ():
        typed(prompt.get(name), kind, f"{path}: {name}")
    return prompt


def _protocol(config: dict[str, Any]) -> Protocol | str:
    """Returns the protocol of a run's task, or the reason why it is unknown.

    The stages of a run share one protocol. Records of earlier versions call the task
    "recipe".
    """
    stages = config.get("stages")
    stages = stages if isinstance(stages, list) else []
    stages = [
        one for one in stages if isinstance(one, dict) and one.get("kind") == "RLStage"
    ]
    if not stages:
        return "config.json has no stage with a task"
    record = stages[-1].get("task", stages[-1].get("recipe"))
    try:
        task = restored(record, Task)
    except (ValueError, KeyError, TypeError) as error:
        return f"the task of config.json cannot be read: {error}"
    if not isinstance(task, Task):
        return f"config.json does not name a task, but has {record!r:.80}"
    return task.protocol


def _place(step: int, stages: Sequence[Stage]) -> str:
    """A step of the run as a step of its stage."""
    for name, first, last in stages:
        if first <= step <= last:
            return f"{name} {step - first + 1}"
    return f"step {step}"


def _sample(
    run_folder: Path, protocol: Protocol | str, stages: Sequence[Stage]
) -> Sample:
    """Chooses evenly spaced files, and the best and worst rollouts of each."""
    files = list(rollout_files(run_folder).items())
    if not files:
        return Sample([], [])
    chosen = np.unique(np.linspace(0, len(files) - 1, MAX_FILES).round().astype(int))
    articles, notes = [], []
    if isinstance(protocol, str):
        notes.append(f"Thoughts, queries and answers are not marked: {protocol}.")
        protocol = None
    if len(chosen) < len(files):
        notes.append(
            f"The page shows {len(chosen)} of {len(files)} step files: the first, the "
            "last, and evenly spaced files between them."
        )
    num_left_out = 0
    for index in chosen:
        step, path = files[index]
        rollouts = read_rollouts(path)
        max_bytes = MAX_BYTES // len(chosen)
        place = _place(step, stages)
        shown = _shown(rollouts, protocol, step, place, max_bytes=max_bytes)
        articles += shown
        num_left_out += len(rollouts) - len(shown)
    if num_left_out:
        notes.append(
            f"To keep the page small, {num_left_out} trajectories of these files are "
            "left out; the best and the worst of each file by reward are kept. "
            "The run's rollouts/ has all of them."
        )
    return Sample(articles, notes)


def _shown(
    rollouts: list[LoggedRollout],
    protocol: Protocol | None,
    step: int,
    place: str,
    *,
    max_bytes: int,
) -> list[str]:
    """Returns articles within the size limits, in stream order.

    The best and the worst rollouts by reward are chosen first.
    """
    by_reward = sorted(range(len(rollouts)), key=lambda i: -rollouts[i].reward)
    # From both ends to the middle: best, worst, second best, second worst, ...
    order = [
        by_reward[n // 2] if n % 2 == 0 else by_reward[-1 - n // 2]
        for n in range(len(by_reward))
    ]
    kept: dict[int, str] = {}
    num_bytes = 0
    for index in order:
        rollout = rollouts[index]
        text = trajectories.article(rollout, protocol, step=step, place=place)
        size = len(text.encode("utf-8", errors="replace"))
        if len(kept) < MAX_ROLLOUTS and num_bytes + size <= max_bytes:
            kept[index] = text
            num_bytes += size
        elif len(kept) == MAX_ROLLOUTS:
            break
    return [
        kept[index]
        for index in sorted(
            kept, key=lambda i: (rollouts[i].prompt_index, rollouts[i].sample_index)
        )
    ]
