"""Checks that the processes of a run have the same inputs."""

from pathlib import Path
from typing import Any

import jax

from jaxsearch import processes
from jaxsearch.config import RLStage, RunConfig
from jaxsearch.run.config_record import difference, resolved


def check_agreement(config: RunConfig) -> None:
    """Checks that all processes have the same config.

    Raises:
      ValueError: if they do not; the error states the first difference.
    """
    check_same(resolved(config), "config")


def check_same(here: Any, name: str) -> None:
    """Checks that all processes have the same JSON values.

    Args:
      here: the values of this process.
      name: name of the values in the error.

    Raises:
      ValueError: if they differ; the error states the first difference.
    """
    for number, there in enumerate(processes.all_gather_objects(here)):
        if differs := difference(there, here):
            raise ValueError(
                f"the processes disagree on the {name}: {differs} (there: process "
                f"{number}, here: process {jax.process_index()}); start all processes "
                "with the same files and arguments"
            )


def questions_per_process(stage: RLStage) -> int:
    """Questions per step of this process.

    Raises:
      ValueError: if the stage's questions cannot be split evenly over the processes.
    """
    return processes.shard_size(
        stage.questions_per_step, f"questions_per_step of stage {stage.name!r}"
    )


def check_shared(folder: Path, step: int) -> None:
    """Checks that all processes see the same checkpoints in the run's folder.

    Raises:
      ValueError: if they do not.
    """
    steps = processes.all_gather_objects(step)
    if len(set(steps)) > 1:
        raise ValueError(
            f"the processes see different checkpoints in {folder}: steps {steps} "
            "(0: none); the folder must be on storage that all processes share"
        )
