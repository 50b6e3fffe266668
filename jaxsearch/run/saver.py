"""When the state of a run is saved: at intervals, and before its process ends."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from jaxsearch import processes
from jaxsearch.config import RunConfig
from jaxsearch.monitor.console import Console
from jaxsearch.rl.update import TrainState
from jaxsearch.run.checkpoint import Checkpoints, Progress, are_finite
from jaxsearch.try_again import TryAgainError


class TrainingFailedError(RuntimeError):
    """A run that cannot continue: its numbers are not finite, or an alarm stops it."""


class Saver:
    """Saves the last finished step of a run when it is due.

    Args:
      config: the run's config.
      console: shows what is being saved when the process ends.

    Attributes:
      checkpoints: the checkpoints of the run's folder.
    """

    def __init__(self, config: RunConfig, console: Console):
        self._config = config.checkpoint
        self._console = console
        self.checkpoints = Checkpoints(
            Path(config.out),
            keep=self._config.keep,
            keep_every=self._config.keep_every,
        )
        # Held while parameters are changed, so that another thread can save them.
        self._update_lock = threading.Lock()
        self._is_ending = False
        self._unsaved: tuple[Progress, TrainState] | None = None
        self._saved_at = time.monotonic()

    @contextlib.contextmanager
    def updating(self) -> Iterator[None]:
        """Context of everything between two states that could be saved."""
        if self._is_ending:
            threading.Event().wait()  # until the thread that saves ends the process
        with self._update_lock:
            yield

    def finish(self) -> None:
        """Saves the last finished step, when the process is about to end.

        It is called in another thread than the training's, whose current update is
        completed first. With several processes, which would have to save together, it
        only waits until the last checkpoint is written.
        """
        if self._unsaved is not None and jax.process_count() == 1:
            self._is_ending = True
            activity = "saving the last step; Ctrl-C ends at once"
            with self._console.activity(activity), self._update_lock:
                self.save()
                self.checkpoints.wait()
        self.checkpoints.wait()

    def end_step(
        self, progress: Progress, state: TrainState, *, num_steps: int
    ) -> None:
        """Saves a finished step, if it is due.

        Args:
          progress: progress after the step.
          state: the state after it.
          num_steps: steps of the stage, the last of which is always saved.

        Raises:
          TrainingFailedError: if its parameters are not finite.
          TryAgainError: if the processes of the run were asked to end; the step is
            saved.
        """
        self._unsaved = (progress, state)
        every = 1 if num_steps < 10 else self._config.every
        is_due = progress.stage_step % every == 0
        if is_due or progress.stage_step == num_steps or self._is_late():
            self.save()
        if processes.is_preempted(progress.step):
            self.save()
            self.checkpoints.wait()
            # None ends before all have written their parts.
            processes.wait_for_all("saved before the end")
            raise TryAgainError(
                f"asked to end; the same command continues after step {progress.step}"
            )

    def save(self) -> None:
        """Saves the last finished step, unless it is saved already.

        Raises:
          TrainingFailedError: if its parameters are not finite. The last checkpoints
            stay, instead of being replaced by some that nothing can be learned from.
        """
        if self._unsaved is None:
            return
        progress, state = self._unsaved
        is_finite = are_finite(state.params)
        if is_finite:
            self.checkpoints.save(progress, state)
            self._saved_at = time.monotonic()
        # Also so that a stage's optimizer is freed at its end.
        self._unsaved = None
        if not is_finite:
            raise TrainingFailedError(
                f"step {progress.step}: parameters are not finite, so it is not saved; "
                "lower the learning rate; the same command continues after the last "
                "checkpoint"
            )

    def _is_late(self) -> bool:
        """Whether the last checkpoint is so old that another is due."""
        limit_s = self._config.minutes * 60.0
        if not limit_s:
            return False
        age_s = time.monotonic() - self._saved_at
        return processes.broadcast_from_primary(age_s >= limit_s)
