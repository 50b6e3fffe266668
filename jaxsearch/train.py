"""The training loop: question, rollout, reward, advantage, update, in this order."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsearch import processes
from jaxsearch.config import RLStage, RunConfig, SupervisedStage
from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.data.formats import Question
from jaxsearch.data.question_store import open_questions
from jaxsearch.data.question_stream import QuestionStream
from jaxsearch.evaluation.evaluate import gather_judged, judge
from jaxsearch.evaluation.heldout import HeldOut, summary
from jaxsearch.metrics import summarise, trajectory_metrics
from jaxsearch.models.adapters import split
from jaxsearch.models.transformer import Params
from jaxsearch.monitor.console import ConsoleWriter
from jaxsearch.monitor.guards import mark_excluded
from jaxsearch.monitor.rollout_log import rollout_path, write_rollouts
from jaxsearch.monitor.stage_guards import Watch
from jaxsearch.monitor.writers import (
    JsonlWriter,
    TensorBoardWriter,
    WandbWriter,
    Writers,
    cut_back,
    read_metrics,
)
from jaxsearch.policy_update import PolicyUpdate, apply_overlong_penalty, batches_of
from jaxsearch.report.write_report import write_report
from jaxsearch.rewards.tasks import task_named
from jaxsearch.rl.objectives import ImitationObjective
from jaxsearch.rl.update import TrainState, Updater, begin_stage
from jaxsearch.rollout.memory import tree_bytes
from jaxsearch.run.build import Run, open_run
from jaxsearch.run.checkpoint import Checkpoints, Progress
from jaxsearch.run.config_record import check_restorable, resolved
from jaxsearch.run.fingerprint import fingerprint
from jaxsearch.run.folder import check_frozen, check_identity, write_record
from jaxsearch.run.inputs import check_complete
from jaxsearch.run.process_agreement import (
    check_agreement,
    check_shared,
    num_own_questions,
)
from jaxsearch.run.train_rows import demonstration_row
from jaxsearch.trajectory import Trajectory


class TrainingFailedError(RuntimeError):
    """A run that cannot go on: gradients or log-probs stay non-finite."""


def train(config: RunConfig) -> dict[str, Any]:
    """Runs all stages, or what is left of them; returns the summary of the run.

    Errors: ValueError for input that does not fit, before anything is written;
    TrainingFailedError when gradients or the sampler's log-probs stay non-finite, or
    an alarm is to stop it.
    """
    started = time.perf_counter()
    check_agreement(config)
    check_restorable(config)
    for stage in config.stages:
        if isinstance(stage, RLStage):
            num_own_questions(stage)
    check_identity(config)
    run = open_run(config)
    check_complete(config, run.inputs)
    frozen, params = split(run.transformer.lora, run.initial_params())
    pinned = fingerprint(frozen)
    check_frozen(Path(config.out), pinned)
    # Nobody writes to the folder before all have looked at it.
    processes.wait_for_all("checked")
    if processes.is_primary():
        write_record(config, pinned)
    trainer = Trainer(run, frozen)
    try:
        trainer.run_stages(params)
    finally:
        trainer.close()
    minutes = (time.perf_counter() - started) / 60
    if processes.is_primary():
        write_report(Path(config.out))
    processes.wait_for_all("reported")
    return {**summary(Path(config.out)), "minutes": minutes, "run": config.out}


class Trainer:
    """What moves during a run: parameters, step, files."""

    def __init__(self, run: Run, frozen: Params):
        """`frozen` are the weights under adapters; {} where all parameters train."""
        self._run = run
        self._frozen = frozen
        self._folder = Path(run.config.out)
        self._checkpoints = Checkpoints(self._folder, keep=run.config.checkpoint.keep)
        self._restored = self._checkpoints.latest()
        self._step = self._restored.step if self._restored else 0
        check_shared(self._folder, self._step)
        self._writers = Writers([])
        if processes.is_primary():
            for name in ("metrics.jsonl", "eval.jsonl"):
                cut_back(self._folder / name, self._step)
            self._writers = open_writers(run.config, restored_step=self._step)
        self._heldout = HeldOut(run)

    def close(self) -> None:
        """Waits for what is still being written."""
        self._checkpoints.close()
        self._writers.close()

    def run_stages(self, params: Params) -> None:
        """Every stage from where the run stands, and the evaluations around RL.

        `params` are what is trained, as a run begins.
        """
        stages = self._run.config.stages
        first = self._restored.stage if self._restored else 0
        for number in range(first, len(stages)):
            stage = stages[number]
            if isinstance(stage, SupervisedStage):
                params = self._imitate(number, stage, params)
                continue
            is_fresh = self._restored is None or self._restored.stage < number
            if is_fresh and not any(isinstance(s, RLStage) for s in stages[:number]):
                self._heldout.before_rl(self._step, stage.name, self._frozen | params)
            params = self._reinforce(number, stage, params)
        if isinstance(stages[-1], RLStage):
            self._heldout.after_rl(self._step, stages[-1].name, self._frozen | params)

    def _begin(
        self, number: int, updater: Updater, params: Params
    ) -> tuple[TrainState, Progress]:
        """State and progress at the start of a stage, or where it was left."""
        stage = self._run.config.stages[number]
        needs_reference = isinstance(stage, RLStage) and stage.needs_reference
        state = begin_stage(params, updater.optimizer, needs_reference=needs_reference)
        if self._restored is None or self._restored.stage != number:
            return state, Progress(
                step=self._step, stage=number, stage_step=0, stream=None
            )
        return self._checkpoints.restore(self._step, state), self._restored

    def _imitate(self, number: int, stage: SupervisedStage, params: Params) -> Params:
        """Supervised warm-up: demonstrations, their policy tokens, an update."""
        run, seed = self._run, self._run.config.seed
        updater = run.updater(stage, ImitationObjective(), 1.0, self._frozen)
        state, progress = self._begin(number, updater, params)
        num_steps = run.config.num_steps(stage)
        demonstrations: Sequence[Demonstration] = ()
        if progress.stage_step < num_steps:
            demonstrations = stage.demonstrations(seed)
        for stage_step in range(progress.stage_step, num_steps):
            started = time.perf_counter()
            # From the step alone, so that a run that resumes draws the same ones.
            rng = np.random.default_rng([seed, number, stage_step])
            chosen = rng.integers(len(demonstrations), size=stage.batch_size)
            rows = [demonstration_row(run, demonstrations[i]) for i in chosen]
            state, metrics = updater.update(state, batches_of(run, rows, stage))
            values = summarise(metrics)
            seconds = time.perf_counter() - started
            values["time/update"] = seconds
            values["tokens_per_s/total"] = sum(len(r.tokens) for r in rows) / seconds
            self._after_step(number, stage_step + 1, state, values, stream=None)
        return state.params

    def _reinforce(self, number: int, stage: RLStage, params: Params) -> Params:
        """Reinforcement learning: questions, rollout, reward, advantage, update."""
        run, config = self._run, self._run.config
        task = task_named(stage.task)
        updater = run.updater(stage, stage.objective, stage.temperature, self._frozen)
        learn = PolicyUpdate(run=run, stage=stage, updater=updater)
        state, progress = self._begin(number, updater, params)
        source = open_questions(
            run.inputs.questions[stage.name], self._folder / "questions"
        )
        stream = QuestionStream(
            source,
            seed=config.seed + number,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        num_questions = num_own_questions(stage)
        if progress.stream is not None:
            stream.restore(progress.stream)
        num_steps = config.num_steps(stage)
        watch = self._watch(stage.name)
        for stage_step in range(progress.stage_step, num_steps):
            rollout_params, publish_s = run.rollout_params(self._frozen | state.params)
            if stage_step == progress.stage_step:
                run.sampler.warm_up(rollout_params, stage.group_size)
            questions = stream.next_batch(num_questions)
            trajectories, rollout_values = self._roll_out(
                number, rollout_params, questions
            )
            trajectories, outcomes, scores = gather_judged(
                trajectories, *judge(trajectories, task)
            )
            if stage.overlong_buffer:
                outcomes = apply_overlong_penalty(
                    trajectories,
                    outcomes,
                    max_len=config.rollout.max_len,
                    buffer=stage.overlong_buffer,
                )
            trajectories, excluded = mark_excluded(trajectories, config.guards)
            publish_bytes = float(tree_bytes(rollout_params))
            # The update needs their room; nobody reads them again.
            jax.tree.map(lambda array: array.delete(), rollout_params)
            run.sampler.free_cache()
            started = time.perf_counter()
            state, metrics, advantages = learn(state, trajectories, outcomes)
            values = summarise(metrics) | summarise(
                trajectory_metrics(
                    trajectories,
                    outcomes,
                    em=[score["em"] for score in scores],
                    f1=[score["f1"] for score in scores],
                    thoughts=[task.protocol.thought(t.segments) for t in trajectories],
                )
            )
            values |= watch.close_step(self._step + 1, values, excluded)
            values |= rollout_values
            values |= _speeds(trajectories, rollout_values["time/rollout"], started)
            values["time/publish"] = publish_s
            values["publish_bytes"] = publish_bytes
            every = config.logging.rollouts_every
            is_last = stage_step + 1 == num_steps
            is_due = every and (stage_step % every == 0 or is_last or watch.is_notable)
            if is_due and processes.is_primary():
                write_rollouts(
                    rollout_path(self._folder, self._step + 1),
                    trajectories,
                    outcomes,
                    advantages=advantages,
                )
            self._after_step(
                number,
                stage_step + 1,
                state,
                values,
                stream=stream.state(),
                watch=watch,
            )
            if config.eval.every and (stage_step + 1) % config.eval.every == 0:
                self._heldout.on_the_way(
                    self._step, stage.name, self._frozen | state.params
                )
        return state.params

    def _watch(self, stage: str) -> Watch:
        """The guards of a stage, with what the run's folder tells of its steps."""
        path = self._folder / "metrics.jsonl"
        lines = []
        # The first has cut the file back; the others may still see the lines after.
        if processes.is_primary() and path.exists():
            lines = [line for line in read_metrics(path) if line["stage"] == stage]
        return Watch(
            config=self._run.config.guards,
            lines=processes.broadcast_from_primary(lines),
        )

    def _roll_out(
        self, number: int, rollout_params: Params, questions: list[tuple[int, Question]]
    ) -> tuple[list[Trajectory], dict[str, float]]:
        """This process's rollouts of a step, and what those of all took.

        Seconds are those of the slowest process: the others wait for it.
        """
        run, stage = self._run, self._run.config.stages[number]
        num_retries = run.num_retries
        trajectories, timing = run.sampler.run(
            rollout_params,
            questions,
            run.observer,
            group_size=stage.group_size,
            stage=number,
            temperature=stage.temperature,
        )
        seconds = {
            "time/rollout": timing.seconds,
            "time/search_wait": timing.search_wait,
        }
        counts = {
            "searches/retries": float(run.num_retries - num_retries),
            "rollouts_restarted": float(timing.num_restarts),
        }
        all_gather_objects = processes.all_gather_objects((seconds, counts))
        slowest = {key: max(s[key] for s, _ in all_gather_objects) for key in seconds}
        return trajectories, slowest | {
            key: sum(c[key] for _, c in all_gather_objects) for key in counts
        }

    def _after_step(
        self,
        number: int,
        stage_step: int,
        state: TrainState,
        values: dict[str, float],
        *,
        stream: dict[str, Any] | None,
        watch: Watch | None = None,
    ) -> None:
        """Writes the step's line, and a checkpoint where one is due.

        Errors: TrainingFailedError after too many non-finite gradients in a row, or
        if the guards say so.
        """
        config = self._run.config
        stage = config.stages[number]
        self._step += 1
        num_steps = config.num_steps(stage)
        every = 1 if num_steps < 10 else config.checkpoint.every
        started = time.perf_counter()
        if stage_step % every == 0 or stage_step == num_steps:
            self._checkpoints.save(
                Progress(
                    step=self._step, stage=number, stage_step=stage_step, stream=stream
                ),
                state,
            )
        values["time/checkpoint"] = time.perf_counter() - started
        self._writers.write(self._step, stage.name, values)
        if watch is not None:
            raise_on_alarm(watch)
        skipped = int(state.num_skipped)
        if skipped >= stage.max_skipped:
            per_step = stage.num_updates // stage.steps
            first = self._step - (skipped - 1) // per_step
            raise TrainingFailedError(
                f"stage {stage.name!r}: the gradients of steps {first} to "
                f"{self._step} were not finite, so "
                "nothing was learned from them; lower the learning rate, or look at "
                "the rollouts of those steps (if every search has failed, see to the "
                "retriever)"
            )


def open_writers(config: RunConfig, *, restored_step: int) -> Writers:
    """Everything that a run's lines go to."""
    folder = Path(config.out)
    steps = {stage.name: config.num_steps(stage) for stage in config.stages}
    writers: list[Any] = [ConsoleWriter(steps), JsonlWriter(folder / "metrics.jsonl")]
    if config.logging.wandb != "disabled":
        writers.append(
            WandbWriter(folder, config=resolved(config), mode=config.logging.wandb)
        )
    if config.logging.tensorboard:
        writers.append(TensorBoardWriter(folder, restored_step=restored_step))
    return Writers(writers)


def raise_on_alarm(watch: Watch) -> None:
    """Says which alarms began with a step. Errors: TrainingFailedError."""
    if processes.is_primary():
        for notice in watch.notices.values():
            print(notice, flush=True)
    if watch.failure:
        raise TrainingFailedError(watch.failure)


def _speeds(
    trajectories: Iterable[Trajectory], rollout_s: float, update_started: float
) -> dict[str, float]:
    update_s = time.perf_counter() - update_started
    policy = sum(int(t.is_policy.sum()) for t in trajectories)
    total = sum(len(t.tokens) for t in trajectories)
    return {
        "time/update": update_s,
        "tokens_per_s/policy": policy / rollout_s,
        "tokens_per_s/total": total / (rollout_s + update_s),
    }
