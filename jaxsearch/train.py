"""The training loop: roll out, judge, shape, advantage, update, record.

`RLStep.__call__` is one step of the algorithm. A step's questions and rollouts are
split over processes; after `gather_judged`, all processes compute the same values.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jaxsearch import processes
from jaxsearch.config import RLStage, RunConfig, SupervisedStage
from jaxsearch.data.question import Question
from jaxsearch.disk_errors import explain_disk
from jaxsearch.evaluation.heldout import HeldOut, summary
from jaxsearch.local_paths import check_local
from jaxsearch.models.adapters import split
from jaxsearch.models.transformer import Params
from jaxsearch.monitor.console import Console
from jaxsearch.monitor.step_record import StepRecord
from jaxsearch.monitor.wandb_login import check_wandb
from jaxsearch.monitor.writers import read_evaluations
from jaxsearch.report.write_report import write_report
from jaxsearch.rl.objectives import ImitationObjective
from jaxsearch.rl.update import TrainState, Updater, begin_stage
from jaxsearch.run.build import Run, open_run
from jaxsearch.run.checkpoint import Progress
from jaxsearch.run.checkpoint_damage import damaged_steps, set_aside
from jaxsearch.run.config_changes import changes, record_changes
from jaxsearch.run.config_record import check_restorable
from jaxsearch.run.data_notes import data_notes
from jaxsearch.run.draws import draw
from jaxsearch.run.early_stopping import is_stopped
from jaxsearch.run.fingerprint import fingerprint
from jaxsearch.run.folder import (
    check_frozen,
    check_identity,
    with_prompt_date,
    write_record,
)
from jaxsearch.run.folder_use import used_alone
from jaxsearch.run.heldout_split import record_heldout
from jaxsearch.run.hub_data import with_commits
from jaxsearch.run.imitation import Imitation
from jaxsearch.run.inputs import check_complete
from jaxsearch.run.learning import learn
from jaxsearch.run.origin_record import origin_record
from jaxsearch.run.outages import Outages
from jaxsearch.run.process_agreement import check_agreement, questions_per_process
from jaxsearch.run.prompt_view import record_prompt
from jaxsearch.run.recorder import Recorder
from jaxsearch.run.remote_retrievers import check_searched
from jaxsearch.run.rollouts import StageRollouts
from jaxsearch.run.saver import TrainingFailedError
from jaxsearch.run.stage_questions import stage_stream
from jaxsearch.run.start import check_rewind, rewind, start_line
from jaxsearch.run.update_memory import explain_update
from jaxsearch.run.updates import make_policy_update
from jaxsearch.search.index import SearchStoppedError
from jaxsearch.try_again import TryAgainError

__all__ = ["TrainingFailedError", "train"]


def train(
    config: RunConfig,
    console: Console | None = None,
    finishing: Callable[..., contextlib.AbstractContextManager[Any]] = nullcontext,
    *,
    rewind_to: int | None = None,
) -> dict[str, Any]:
    """Runs all stages, or resumes a run, and returns the run's summary.

    Args:
      config: the run's config.
      console: receives progress and results; None prints them to standard output.
      finishing: context that receives a function which saves the last step, to be
        called in another thread before the process is ended early.
      rewind_to: step of a checkpoint to resume from instead of the newest one; later
        ones get other names, once nothing of the config or the inputs is refused.

    Raises:
      ValueError: if an input is invalid; raised before anything is written.
      TrainingFailedError: if gradients or the sampler's log-probs stay non-finite, or
        an alarm stops the run.
      OutOfMemoryError: if a setting needs more memory than there is.
      DiskError: if the folder cannot be written, or its disk is full.
      SearchStoppedError: if a search needs the user to act first; the last step is
        saved.
      TryAgainError: if another process trains in the folder, if searches fail for too
        long, if a tool that a demonstration calls fails, or if several processes were
        asked to end; the last step is saved.
    """
    check_local(config.out, "the run's folder (out)")
    check_agreement(config)
    folder = Path(config.out)
    goes_on = "the same command continues after the last checkpoint"
    with explain_disk(folder, goes_on), used_alone(folder, finishing):
        return _train(config, console, finishing, rewind_to)


def _train(
    config: RunConfig,
    console: Console | None,
    finishing: Callable[..., contextlib.AbstractContextManager[Any]],
    rewind_to: int | None,
) -> dict[str, Any]:
    """`train`, in a folder that no other process trains in."""
    started, folder = time.perf_counter(), Path(config.out)
    check_restorable(config)
    if processes.is_primary():
        check_wandb(config.logging.wandb)
    for stage in config.stages:
        if isinstance(stage, RLStage):
            questions_per_process(stage)
    config = with_commits(config)
    check_identity(config)
    if rewind_to is not None:
        check_rewind(folder, rewind_to)
    changed = changes(config, rewind_to)
    # Every byte of a checkpoint is read, which one process does for all.
    damaged = processes.on_primary(lambda: damaged_steps(folder, rewind_to))
    config = with_prompt_date(config)
    if console is None:
        console = Console(is_silent=not processes.is_primary())
    with console.activity("reading the data"):
        run = open_run(config, console.compiling)
        has_search = run.environments.has_search
        check_complete(config, run.inputs, has_search=has_search)
        run.environments.check_search()
        searched = run.environments.remote.searched
        check_searched(folder, searched)
    for note in data_notes(config, run.inputs, has_search=has_search):
        processes.say_once(note)
    initial = run.initial_params()
    origin = origin_record(config, initial)
    frozen, params = split(run.transformer.lora, initial)
    pinned = fingerprint(frozen)
    check_frozen(folder, pinned)
    # No process writes to the folder before all have checked it.
    processes.wait_for_all("checked")
    if processes.is_primary():
        if rewind_to is not None:
            rewind(folder, rewind_to)
        if line := record_heldout(config, run.inputs.own_heldout):
            console.print(line)
        if damaged:
            console.print(set_aside(folder, damaged))
        if line := record_changes(config, changed):
            console.print(line)
        write_record(config, pinned, searched, origin)
        record_prompt(config, run.inputs)
    # No process looks for checkpoints before the damaged ones are set aside.
    processes.wait_for_all("recorded")
    recorder = Recorder(config, console)
    evaluations = read_evaluations(folder)
    if origin and recorder.restored is None:
        console.print(f"warm start from {origin['run']}: {origin['checkpoint']}")
    console.print(start_line(config, recorder.restored, evaluations))
    try:
        with finishing(recorder.finish):
            _run_stages(Trainer(run, frozen, recorder, console), params, recorder)
    finally:
        recorder.close()
    minutes = (time.perf_counter() - started) / 60
    return _reported(config, run.inputs.heldout, recorder.step, minutes)


def _reported(
    config: RunConfig, heldout: Sequence[Question], step: int, minutes: float
) -> dict[str, Any]:
    """Writes the report of a run that has ended after a step; returns its summary."""
    folder = Path(config.out)
    if processes.is_primary():
        write_report(folder)
    processes.wait_for_all("reported")
    found = {**summary(folder), "minutes": minutes, "run": config.out}
    if config.eval.patience:
        num_steps = sum(config.num_steps(stage) for stage in config.stages)
        is_stopped_now = is_stopped(config, read_evaluations(folder))
        found["stopped_early"] = step < num_steps and is_stopped_now
    if heldout:
        found["question"] = heldout[0].question
    return found


def _run_stages(trainer: "Trainer", params: Params, recorder: Recorder) -> None:
    """Runs the stages; saves the last step if nothing more can be searched."""
    try:
        trainer.run_stages(params)
    except SearchStoppedError:
        recorder.finish()
        raise
    except TryAgainError:
        # All processes have come here together.
        recorder.end_stage()
        raise


class Trainer:
    """Runs the stages of a run, starting from its newest checkpoint.

    Args:
      frozen: the weights under adapters; {} if all parameters are trained.
    """

    def __init__(self, run: Run, frozen: Params, recorder: Recorder, console: Console):
        self._run = run
        self._frozen = frozen
        self._recorder = recorder
        self._console = console
        self._heldout = HeldOut(run, console, recorder.keep_as_best)

    def run_stages(self, params: Params) -> None:
        """Runs every remaining stage, and the evaluations before and after RL.

        Args:
          params: initial values of the trained parameters.
        """
        stages, recorder = self._run.config.stages, self._recorder
        first = recorder.restored.stage if recorder.restored else 0
        for number in range(first, len(stages)):
            stage = stages[number]
            if isinstance(stage, SupervisedStage):
                params = self._imitate(number, stage, params)
                continue
            is_fresh = recorder.restored is None or recorder.restored.stage < number
            if is_fresh and not any(isinstance(s, RLStage) for s in stages[:number]):
                self._heldout.before_rl(
                    recorder.step, stage.name, self._frozen | params
                )
            params = self._reinforce(number, stage, params)
        if isinstance(stages[-1], RLStage):
            self._heldout.after_rl(
                recorder.step, stages[-1].name, self._frozen | params
            )

    def _begin(
        self, number: int, updater: Updater, params: Params
    ) -> tuple[TrainState, Progress]:
        """State and progress at the start of a stage, or from its checkpoint."""
        stage = self._run.config.stages[number]
        needs_reference = isinstance(stage, RLStage) and stage.needs_reference
        with explain_update(self._run, number):
            state = begin_stage(
                params, updater.optimizer, needs_reference=needs_reference
            )
            return self._recorder.begin_stage(number, state)

    def _imitate(self, number: int, stage: SupervisedStage, params: Params) -> Params:
        """Runs a supervised stage; each step is one update on random demonstrations."""
        run, seed = self._run, self._run.config.seed
        updater = run.updater(stage, ImitationObjective(), 1.0, self._frozen)
        state, progress = self._begin(number, updater, params)
        num_steps = run.config.num_steps(stage)
        is_done = progress.stage_step >= num_steps
        with self._console.activity("making demonstrations"):
            demonstrations = () if is_done else stage.demonstrations(seed)
        kept = self._recorder.kept_updates(number)
        imitation = Imitation(run, stage, number, updater, demonstrations, kept)
        for stage_step in range(progress.stage_step, num_steps):
            record = StepRecord()
            with self._recorder.updating():
                with record.time("time/update"), explain_update(run, number):
                    state, metrics, num_tokens = imitation(state, stage_step)
                    record.add(metrics)
                seconds = record.values["time/update"]
                record.add({"tokens_per_s/total": num_tokens / seconds})
                progress = progress.after_step(stream=None)
                self._recorder.end_step(stage, progress, state, record)
        return state.params

    def _reinforce(self, number: int, stage: RLStage, params: Params) -> Params:
        """Runs an RL stage: its steps, and evaluations between them."""
        run, recorder = self._run, self._recorder
        updater = run.updater(stage, stage.objective, stage.temperature, self._frozen)
        state, progress = self._begin(number, updater, params)
        step = RLStep(
            run, stage, number, self._frozen, updater, recorder, self._console.print
        )
        step.restore(progress)
        # A run that was killed during an evaluation repeats it when it resumes.
        self._evaluate_if_due(stage, step.progress, state.params)
        num_steps = run.config.num_steps(stage)
        # After the last step there is nothing left to stop.
        while step.progress.stage_step < num_steps and not self._is_stopped(number):
            state = step(state)
            self._evaluate_if_due(stage, step.progress, state.params)
        recorder.end_stage()
        return state.params

    def _evaluate_if_due(
        self, stage: RLStage, progress: Progress, params: Params
    ) -> None:
        """Evaluates after every `eval.every` steps of an RL stage, if it is one."""
        every, stage_step = self._run.config.eval.every, progress.stage_step
        if every and stage_step and stage_step % every == 0:
            self._heldout.on_the_way(progress.step, stage.name, self._frozen | params)

    def _is_stopped(self, number: int) -> bool:
        """Whether a stage, if it is the last RL stage, stops early."""
        config = self._run.config
        later = config.stages[number + 1 :]
        is_last = not any(isinstance(stage, RLStage) for stage in later)
        return config.eval.patience > 0 and is_last and self._heldout.is_stopped()


class RLStep:
    """One step of an RL stage.

    Attributes:
      progress: progress of the run after the last step.
    """

    progress: Progress

    def __init__(
        self,
        run: Run,
        stage: RLStage,
        number: int,
        frozen: Params,
        updater: Updater,
        recorder: Recorder,
        say: Callable[..., Any],
    ):
        self._config = run.config
        self._stage = stage
        self._questions = stage_stream(
            run.config, number, run.inputs.questions[stage.name]
        )
        self._roll_out = StageRollouts(run, stage, number, frozen)
        self._explain_update = functools.partial(explain_update, run, number)
        kept = recorder.kept_updates(number)
        self._update = make_policy_update(run, stage, updater, kept)
        self._guards = recorder.stage_guards(stage)
        self._recorder = recorder
        self._say = say

    def restore(self, progress: Progress) -> None:
        """Continues after `progress`, with the next questions of the stream."""
        self.progress = progress
        if progress.stream is not None:
            self._questions.restore(progress.stream)

    def _next_questions(self) -> list[tuple[int, Question]]:
        return self._questions.next_batch(questions_per_process(self._stage))

    def __call__(self, state: TrainState) -> TrainState:
        """Rolls out, judges, shapes, estimates advantages, updates and records."""
        config, stage, record = self._config, self._stage, StepRecord()
        outages = Outages(config.retrieval, self._say)
        with self._roll_out(state.params, record) as roll_out:
            judged = draw(
                stage,
                roll_out,
                self._next_questions,
                outages,
                max_len=config.rollout.max_len,
            )
        if outages.num_repeats:
            record.add({"searches/steps_repeated": float(outages.num_repeats)})
        with self._recorder.updating():
            with self._explain_update():
                learned = learn(
                    stage, config.guards, self._update, state, judged, record
                )
            self.progress = self.progress.after_step(stream=self._questions.state())
            step = self.progress.step
            record.add(self._guards.close_step(step, record.values, learned.excluded))
            self._recorder.write_rollouts(
                stage,
                self.progress.stage_step,
                learned.judged,
                learned.advantages,
                self._guards,
            )
            self._recorder.print_samples(
                stage, self.progress.stage_step, learned.judged
            )
            state = learned.state
            self._recorder.end_step(stage, self.progress, state, record, self._guards)
        return state
