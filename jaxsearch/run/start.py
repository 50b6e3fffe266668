"""How a run starts: it resumes, begins anew, or is complete already."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch import processes
from jaxsearch.config import RunConfig
from jaxsearch.run.checkpoint import Progress, newest_step
from jaxsearch.run.early_stopping import is_stopped


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
        f"{config.out} is complete, after {after}; a larger {more} goes on; --fresh "
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


@contextlib.contextmanager
def fresh_folder(folder: Path) -> Iterator[None]:
    """Context in which a run's folder is free: an earlier run has another name there.

    Nothing is deleted. The earlier run gets its name back if the new one is refused
    before it writes anything.
    """
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
