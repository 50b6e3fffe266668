"""The parameters that were best on the held-out questions, kept during a run."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxsearch import processes
from jaxsearch.models.transformer import Params
from jaxsearch.run.checkpoint_hashes import write_hashes

# Folder in a run's folder, next to `checkpoints`.
BEST_FOLDER = "best"


class BestCheckpoints:
    """Parameters of the steps whose held-out exact match no earlier step exceeds.

    The newest of them is the best of the run. An older one is deleted when the run has
    no checkpoint left from which a resumed run would need it. All processes of a run
    call the methods together.

    Args:
      folder: the run's folder.
      after: step that the run continues from; later parameters are deleted, because
        their steps will be repeated.
      resumable: returns the steps that the run can resume from.
    """

    def __init__(
        self, folder: Path, *, after: int, resumable: Callable[[], Sequence[int]]
    ):
        from orbax.checkpoint import v1 as ocp

        self._checkpointer = ocp.training.Checkpointer(
            (folder / BEST_FOLDER).resolve(),
            preservation_policy=_BestSoFar(resumable=resumable),
            cleanup_tmp_directories=True,
        )
        steps = [checkpoint.step for checkpoint in self._checkpointer.checkpoints]
        # Every process has listed the folder before one of them changes it.
        processes.wait_for_all("listed the best checkpoints")
        for step in steps:
            if step > after:
                self._checkpointer.delete(step)

    def save(self, step: int, trained: Params) -> None:
        """Saves the trained parameters of a step, and waits until they are written.

        Args:
          step: a step that is at least as good as all before it.
          trained: the trained parameters; the frozen weights under adapters are not
            saved.
        """
        latest = self._checkpointer.latest
        if latest is None or latest.step < step:
            state = {"state": {"params": trained}}
            self._checkpointer.save_checkpointables(step, state, force=True)
            if processes.is_primary():
                write_hashes(Path(self._checkpointer.directory) / str(step))
            # No process uses it before its hashes are written.
            processes.wait_for_all("hashed the best checkpoint")

    def close(self) -> None:
        """Closes the writer."""
        self._checkpointer.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _BestSoFar:
    """Preserves the newest checkpoint, and the newest up to each resumable step."""

    resumable: Callable[[], Sequence[int]]

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any
    ) -> Sequence[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        needed = {max(steps, default=0)}
        for resumed in self.resumable():
            needed.add(max((step for step in steps if step <= resumed), default=0))
        return [step in needed for step in steps]
