"""How a run starts: it resumes, begins anew, or is complete already."""

import contextlib
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch import processes
from jaxsearch.config import RunConfig
from jaxsearch.run.best_checkpoint import BEST_FOLDER
from jaxsearch.run.checkpoint import (
    CHECKPOINT_FOLDER,
    Progress,
    newest_step,
    saved_steps,
)
from jaxsearch.run.early_stopping import is_stopped
from jaxsearch.run.folder_lock import check_unlocked


def start_line(
    config: RunConfig,
    restored: Progress | None,
    evaluations: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The line that tells the user how a run starts.

    Args:
      config: the run's config.
      restored: progress at the checkpoint that it resumes from; None for a new run.
      evaluations: the lines of its `eval.jsonl` up to there.
    """
    steps = [config.num_steps(stage) for stage in config.stages]
    if restored is None:
        count = f"{sum(steps)} step" + "s" * (sum(steps) > 1)
        if len(steps) > 1:
            named = zip(steps, config.stages, strict=True)
            count += f" ({', '.join(f'{n} of {stage.name}' for n, stage in named)})"
        return f"a new run of {count} in {config.out}"
    last = len(steps) - 1
    if restored.stage < last or restored.stage_step < steps[-1]:
        if not is_stopped(config, evaluations):
            return f"resuming {config.out} after step {restored.step} of {sum(steps)}"
        after = f"step {restored.step} of {sum(steps)}, where it stopped early"
        more = f"--eval.patience than {config.eval.patience}"
    else:
        after = f"step {restored.step}"
        is_limited = steps[-1] < config.stages[-1].steps
        limit = "--steps" if is_limited else f"--stages.{last}.steps"
        more = f"{limit} than {steps[-1]}"
    return (
        f"{config.out} is complete, after {after}; a larger {more} continues; --fresh "
        "starts it again from its first step"
    )


def check_resumable(folder: Path) -> None:
    """Checks that a run's folder has a checkpoint.

    Raises:
      ValueError: if it has none.
    """
    if newest_step(folder) is None:
        raise ValueError(
            f"--resume: {folder} has no checkpoint to resume from; leave out --resume "
            "to start a new run"
        )


def check_rewind(folder: Path, step: int) -> None:
    """Checks that a run can go back to a step.

    Raises:
      ValueError: if it has no checkpoint of that step.
    """
    steps = saved_steps(folder / CHECKPOINT_FOLDER)
    if step not in steps:
        there = ", ".join(map(str, steps)) or "none"
        raise ValueError(
            f"--rewind {step}: {folder} has no checkpoint of that step, but of: {there}"
        )


def rewind(folder: Path, step: int) -> None:
    """Makes a run resume from an earlier checkpoint; later ones get other names.

    What it wrote after that step is removed when it resumes.

    Args:
      folder: the run's folder, in which no other process trains.
      step: step of a checkpoint in it.
    """
    for kind in (folder / CHECKPOINT_FOLDER, folder / BEST_FOLDER):
        for later in (one for one in saved_steps(kind) if one > step):
            kept = kind / f"later-{later}"
            shutil.rmtree(kept, ignore_errors=True)
            (kind / str(later)).rename(kept)
            processes.say_once(f"the later checkpoint is kept in {kept}")


@contextlib.contextmanager
def fresh_folder(folder: Path) -> Iterator[None]:
    """Context in which a run's folder is free: an earlier run has another name there.

    Nothing is deleted. The earlier run gets its name back if the new one is refused
    before it writes anything.

    Raises:
      TryAgainError: if a process trains in the folder.
    """
    processes.on_primary(lambda: check_unlocked(folder))
    kept = None
    if processes.is_primary() and (folder / "config.json").is_file():
        kept = _free_name(folder)
        folder.rename(kept)
        processes.say_once(f"the earlier run is kept in {kept}")
    # No process looks into the folder before it is free.
    processes.wait_for_all("fresh")
    try:
        yield
    except ValueError:
        if kept is not None and not folder.exists():
            kept.rename(folder)
            processes.say_once(f"the earlier run is in {folder} again")
        raise


def _free_name(folder: Path) -> Path:
    """The folder's name with the first number that is free: runs/a.1, runs/a.2."""
    named = (folder.with_name(f"{folder.name}.{n}") for n in itertools.count(1))
    return next(path for path in named if not path.exists())
