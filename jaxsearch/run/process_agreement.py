"""What the processes of a run must have in common, checked before it costs anything."""

from pathlib import Path
from typing import Any

import jax

from jaxsearch import processes
from jaxsearch.config import RLStage, RunConfig
from jaxsearch.run.config_record import difference, resolved


def check_agreement(config: RunConfig) -> None:
    """Errors: ValueError if the processes of a run were started with other configs."""
    check_same(resolved(config), "config")


def check_same(here: Any, name: str) -> None:
    """Errors: ValueError if processes have other JSON values of this name."""
    for number, there in enumerate(processes.all_gather_objects(here)):
        if differs := difference(there, here):
            raise ValueError(
                f"the processes disagree on the {name}: {differs} (there is process "
                f"{number}, here process {jax.process_index()}); start all of them "
                "with the same files and arguments"
            )


def questions_per_process(stage: RLStage) -> int:
    """Questions of a step for this process.

    Errors: ValueError if the processes cannot take equally many.
    """
    return processes.shard_size(
        stage.questions_per_step, f"questions_per_step of stage {stage.name!r}"
    )


def check_shared(folder: Path, step: int) -> None:
    """Errors: ValueError if processes see other checkpoints in the run's folder."""
    steps = processes.all_gather_objects(step)
    if len(set(steps)) > 1:
        raise ValueError(
            f"the processes see different checkpoints in {folder}: of steps {steps} "
            "(0: none); the folder must be on storage that all processes share"
        )
