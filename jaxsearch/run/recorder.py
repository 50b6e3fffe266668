"""The files that a run writes during training: metrics, rollouts, checkpoints."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    read_steps,
)
from jaxsearch.rewards.judge import Judged
from jaxsearch.rl.credit import Advantage
from jaxsearch.rl.update import TrainState
from jaxsearch.run.best_checkpoint import BestCheckpoints
from jaxsearch.run.checkpoint import Progress
from jaxsearch.run.config_record import resolved
from jaxsearch.run.later_files import remove_later
from jaxsearch.run.non_finite import KeptUpdates, replay_hint
from jaxsearch.run.process_agreement import check_shared
from jaxsearch.run.saver import Saver, TrainingFailedError

Stage = SupervisedStage | RLStage


class Recorder:
    """Counts the steps of a run, and writes its metrics, rollouts and checkpoints.

    If the folder holds a checkpoint, what was written after its step is removed.

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
        self._saver = Saver(config, console)
        self._checkpoints = self._saver.checkpoints
        self.restored = self._checkpoints.latest()
        self.step = self.restored.step if self.restored else 0
        check_shared(self._folder, self.step)
        self._best = BestCheckpoints(
            self._folder, after=self.step, resumable=self._checkpoints.steps
        )
        steps = {stage.name: config.num_steps(stage) for stage in config.stages}
        self._on_console = ConsoleWriter(steps, console)
        self._writers = Writers([])
        self._saving = StepRecord()
        if processes.is_primary():
            remove_later(self._folder, self.step)
            files = open_writers(config, restored_step=self.step)
            self._writers = Writers([*files, self._on_console])

    def updating(self) -> contextlib.AbstractContextManager[None]:
        """Context of everything between two states that could be saved."""
        return self._saver.updating()

    def finish(self) -> None:
        """Saves the last finished step, see `Saver.finish`, and its metrics."""
        try:
            self._saver.finish()
        finally:
            self._writers.finish()

    def close(self) -> None:
        """Waits for pending writes, and closes the files."""
        self._checkpoints.close()
        self._best.close()
        self._writers.close()

    def begin_stage(
        self, number: int, state: TrainState
    ) -> tuple[TrainState, Progress]:
        """The restored state and progress of a stage, or `state` at its first step.

        Raises:
          TrainingFailedError: if the stage has had its last step, which failed. Without
            a further step nothing else would tell so.
        """
        progress = Progress(step=self.step, stage=number, stage_step=0, stream=None)
        if self.restored is not None and self.restored.stage == number:
            state = self._checkpoints.restore(self.step, state)
            progress = self.restored
        stage = self._config.stages[number]
        if progress.stage_step >= self._config.num_steps(stage):
            self._check_last_step(stage, state)
        self._on_console.begin_stage(stage.name, progress.stage_step)
        return state, progress

    def _check_last_step(self, stage: Stage, state: TrainState) -> None:
        """Raises again the failure of a stage's last step, unless it was an alarm's."""
        try:
            if isinstance(stage, RLStage):
                _raise_on_alarm(self.stage_guards(stage), self._console)
            _check_finite(stage, self.step, int(state.num_skipped), self._folder)
        except TrainingFailedError as error:
            raise TrainingFailedError(
                f"{error}; that was the last step of its stage: go back with --rewind, "
                "or raise max_skipped or guards.max_non_finite to continue without them"
            ) from None

    def stage_guards(self, stage: RLStage) -> StageGuards:
        """The guards of a stage, with the metrics of its steps so far."""
        path = self._folder / "metrics.jsonl"
        lines = []
        # The primary process has removed later lines; others may still see them.
        if processes.is_primary():
            lines = [line for line in read_steps(path) if line["stage"] == stage.name]
        return StageGuards(
            config=self._config.guards, lines=processes.broadcast_from_primary(lines)
        )

    def kept_updates(self, number: int) -> KeptUpdates:
        """Receives each update of a stage; keeps those that are not finite."""
        return KeptUpdates(
            self._folder,
            self._config.checkpoint.keep_non_finite,
            number,
            lambda: self.step + 1,
            self._checkpoints.wait,
            self._console.print,
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
            self._saver.save()

    def end_step(
        self,
        stage: Stage,
        progress: Progress,
        state: TrainState,
        record: StepRecord,
        guards: StageGuards | None = None,
    ) -> None:
        """Writes the step's metrics, and saves a checkpoint if one is due.

        In this order, so that a run that is killed in between and resumes from its
        checkpoints has the metrics of every step. For the same reason the time of the
        checkpoint is in the metrics of the step after it.

        Args:
          progress: progress after this step.
          guards: the guards of an RL stage, whose notices are printed.

        Raises:
          TrainingFailedError: if an alarm stops the run, or too many consecutive
            updates or any parameters were not finite.
          TryAgainError: if the processes of the run were asked to end.
        """
        self.step = progress.step
        num_steps = self._config.num_steps(stage)
        record.add(self._saving.values)
        self._saving = StepRecord()
        self._writers.write(self.step, stage.name, record.values)
        with self._saving.time("time/checkpoint"):
            self._saver.end_step(progress, state, num_steps=num_steps)
        if guards is not None:
            _raise_on_alarm(guards, self._console)
        _check_finite(stage, self.step, int(state.num_skipped), self._folder)

    def keep_as_best(self, trained: Params) -> None:
        """Keeps the parameters of the current step, the best on held-out questions.

        Returns when they are written. A checkpoint that is being written is completed
        first, because the checkpoints decide which older parameters can be deleted; and
        none is begun in another thread, because Orbax confuses two saves at a time and
        then waits for five minutes.
        """
        with self.updating():
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


def _check_finite(stage: Stage, step: int, num_skipped: int, folder: Path) -> None:
    if num_skipped < stage.max_skipped:
        return
    first = step - (num_skipped - 1) // (stage.num_updates // stage.steps)
    raise TrainingFailedError(
        f"stage {stage.name!r}: the gradients of steps {first} to {step} were not "
        "finite, so nothing was learned from them; lower the learning rate, or look "
        "at the rollouts of those steps (if every search failed, check the retriever)"
        f"{replay_hint(folder, first)}"
    )
