"""The files that a run writes during training: metrics, rollouts, checkpoints."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxsearch import processes
from jaxsearch.config import RLStage, RunConfig, SupervisedStage
from jaxsearch.models.transformer import Params
from jaxsearch.monitor.console import Console
from jaxsearch.monitor.console_writer import ConsoleWriter
from jaxsearch.monitor.rollout_log import rollout_path, write_rollouts
from jaxsearch.monitor.stage_guards import StageGuards
from jaxsearch.monitor.step_record import StepRecord
from jaxsearch.monitor.trajectory_printer import print_trajectory
from jaxsearch.monitor.writers import (
    JsonlWriter,
    TensorBoardWriter,
    WandbWriter,
    Writers,
    cut_back,
    read_metrics,
)
from jaxsearch.rewards.judge import Judged
from jaxsearch.rl.credit import Advantage
from jaxsearch.rl.update import TrainState
from jaxsearch.run.best_checkpoint import BestCheckpoints
from jaxsearch.run.checkpoint import Checkpoints, Progress
from jaxsearch.run.config_record import resolved
from jaxsearch.run.process_agreement import check_shared

Stage = SupervisedStage | RLStage


class TrainingFailedError(RuntimeError):
    """A run that cannot continue: non-finite gradients or log-probs, or an alarm."""


class Recorder:
    """Counts the steps of a run, and writes its metrics, rollouts and checkpoints.

    If the folder holds a checkpoint, lines after its step are removed from the files.

    Args:
      config: the run's config.
      console: receives the steps, and the notices of guards.

    Attributes:
      step: last finished step of the run, counted from 1 over all stages.
      restored: progress at the newest checkpoint; None for a new run.
    """

    def __init__(self, config: RunConfig, console: Console):
        self._config = config
        self._console = console
        self._folder = Path(config.out)
        self._checkpoints = Checkpoints(self._folder, keep=config.checkpoint.keep)
        self.restored = self._checkpoints.latest()
        self.step = self.restored.step if self.restored else 0
        check_shared(self._folder, self.step)
        self._best = BestCheckpoints(
            self._folder, after=self.step, resumable=self._checkpoints.steps
        )
        steps = {stage.name: config.num_steps(stage) for stage in config.stages}
        self._on_console = ConsoleWriter(steps, console)
        self._writers = Writers([])
        # Held while parameters are changed, so that another thread can save them.
        self._update_lock = threading.Lock()
        self._is_ending = False
        self._unsaved: tuple[Progress, TrainState] | None = None
        if processes.is_primary():
            for name in ("metrics.jsonl", "eval.jsonl"):
                cut_back(self._folder / name, self.step)
            files = open_writers(config, restored_step=self.step)
            self._writers = Writers([self._on_console, *files])

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
                if self._unsaved is not None:
                    self._checkpoints.save(*self._unsaved)
                self._checkpoints.wait()
        self._checkpoints.wait()

    def close(self) -> None:
        """Waits for pending writes, and closes the files."""
        self._checkpoints.close()
        self._best.close()
        self._writers.close()

    def begin_stage(
        self, number: int, state: TrainState
    ) -> tuple[TrainState, Progress]:
        """The restored state and progress of a stage, or `state` at its first step."""
        progress = Progress(step=self.step, stage=number, stage_step=0, stream=None)
        if self.restored is not None and self.restored.stage == number:
            state = self._checkpoints.restore(self.step, state)
            progress = self.restored
        name = self._config.stages[number].name
        self._on_console.begin_stage(name, progress.stage_step)
        return state, progress

    def stage_guards(self, stage: RLStage) -> StageGuards:
        """The guards of a stage, with the metrics of its steps so far."""
        path = self._folder / "metrics.jsonl"
        lines = []
        # The primary process has removed later lines; others may still see them.
        if processes.is_primary() and path.exists():
            lines = [ln for ln in read_metrics(path) if ln["stage"] == stage.name]
        return StageGuards(
            config=self._config.guards, lines=processes.broadcast_from_primary(lines)
        )

    def write_rollouts(
        self,
        stage: RLStage,
        stage_step: int,
        judged: Judged,
        advantages: Sequence[Advantage],
        guards: StageGuards,
    ) -> None:
        """Writes the rollouts of the current step, if they are due."""
        every = self._config.logging.rollouts_every
        if not every or not processes.is_primary():
            return
        is_last = stage_step == self._config.num_steps(stage)
        is_due = (stage_step - 1) % every == 0 or is_last
        if is_due or guards.should_log_rollouts:
            write_rollouts(
                rollout_path(self._folder, self.step + 1),
                judged.trajectories,
                judged.outcomes,
                advantages=advantages,
                opened=stage.task.protocol.opened,
            )

    def print_samples(self, stage: RLStage, stage_step: int, judged: Judged) -> None:
        """Prints some rollouts of the current step, if they are due."""
        logging = self._config.logging
        every = logging.samples_every
        if not every or (stage_step - 1) % every:
            return
        first = [
            (trajectory, outcome)
            for trajectory, outcome in zip(
                judged.trajectories, judged.outcomes, strict=True
            )
            if trajectory.sample_index == 0
        ]
        for trajectory, outcome in first[: logging.num_samples]:
            place = f"{stage.name} {stage_step}/{self._config.num_steps(stage)}"
            self._console.print((f"{place}, reward {outcome.reward:.3f}", "dim"))
            print_trajectory(trajectory, stage.task.protocol, self._console)

    def end_stage(self) -> None:
        """Saves the last step, if a stage ends before it has all its steps."""
        self._on_console.close()
        with self.updating():
            if self._unsaved is not None:
                self._checkpoints.save(*self._unsaved)
                self._unsaved = None

    def end_step(
        self,
        stage: Stage,
        progress: Progress,
        state: TrainState,
        record: StepRecord,
        guards: StageGuards | None = None,
    ) -> None:
        """Saves a checkpoint if one is due, and writes the step's metrics.

        Args:
          progress: progress after this step.
          guards: the guards of an RL stage, whose notices are printed.

        Raises:
          TrainingFailedError: if an alarm stops the run, or too many consecutive
            updates were not finite.
        """
        self.step = progress.step
        num_steps = self._config.num_steps(stage)
        every = 1 if num_steps < 10 else self._config.checkpoint.every
        with record.time("time/checkpoint"):
            self._unsaved = (progress, state)
            if progress.stage_step % every == 0 or progress.stage_step == num_steps:
                self._checkpoints.save(progress, state)
                # Also so that a stage's optimizer is freed at its end.
                self._unsaved = None
        self._writers.write(self.step, stage.name, record.values)
        if guards is not None:
            _raise_on_alarm(guards, self._console)
        _check_finite(stage, self.step, int(state.num_skipped))

    def keep_as_best(self, trained: Params) -> None:
        """Keeps the parameters of the current step, the best on held-out questions.

        Returns when they are written. A checkpoint that is being written is completed
        first, because the checkpoints decide which older parameters can be deleted.
        """
        self._checkpoints.wait()
        self._best.save(self.step, trained)


def open_writers(config: RunConfig, *, restored_step: int) -> list[Any]:
    """The writers of a run's files that its config selects."""
    folder = Path(config.out)
    writers: list[Any] = [JsonlWriter(folder / "metrics.jsonl")]
    if config.logging.wandb != "disabled":
        logging = config.logging
        writers.append(
            WandbWriter(
                folder,
                config=resolved(config),
                mode=logging.wandb,
                project=logging.wandb_project,
                entity=logging.wandb_entity,
                name=logging.wandb_name,
                tags=logging.wandb_tags,
            )
        )
    if config.logging.tensorboard:
        writers.append(TensorBoardWriter(folder, restored_step=restored_step))
    return writers


def _raise_on_alarm(guards: StageGuards, console: Console) -> None:
    """Prints the alarms that began with this step; raises if one stops the run."""
    for notice in guards.notices.values():
        console.print(notice)
    if guards.failure:
        raise TrainingFailedError(guards.failure)


def _check_finite(stage: Stage, step: int, num_skipped: int) -> None:
    if num_skipped < stage.max_skipped:
        return
    first = step - (num_skipped - 1) // (stage.num_updates // stage.steps)
    raise TrainingFailedError(
        f"stage {stage.name!r}: the gradients of steps {first} to {step} were not "
        "finite, so nothing was learned from them; lower the learning rate, or look "
        "at the rollouts of those steps (if every search failed, check the retriever)"
    )
