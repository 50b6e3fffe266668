"""Rollouts of questions until a policy is right, recorded for resuming."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxsearch import json_lines, processes
from jaxsearch.config import RLStage
from jaxsearch.data.question import Question
from jaxsearch.data.selection import Call, Try, next_calls
from jaxsearch.evaluation.evaluate import EVALUATION_STAGE
from jaxsearch.json_types import typed
from jaxsearch.models.transformer import Params
from jaxsearch.monitor.bars import count_bar
from jaxsearch.rewards.judge import judge
from jaxsearch.run.build import Run
from jaxsearch.served.run import ServedRun
from jaxsearch.trajectory import SEARCH, Status, Trajectory

# Stage number in the random keys, different from those of training and evaluation.
SELECTION_STAGE = 2 * EVALUATION_STAGE

RIGHT = ("cover_em", "em", "f1")


class SelectionFailedError(RuntimeError):
    """A search failed during the tries, or no question is within the bounds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Criterion:
    """The criterion for a right answer.

    Attributes:
      right: the metric that decides, with the task's normaliser; one of RIGHT.
      at_least: the smallest value of the metric that counts as right.
    """

    right: str = "cover_em"
    at_least: float = 1.0

    def __post_init__(self):
        if self.right not in RIGHT:
            raise ValueError(
                f"--right must be one of {', '.join(RIGHT)}; got {self.right!r}"
            )
        if not 0 < self.at_least <= 1:
            raise ValueError(f"--at-least must be in (0, 1], got {self.at_least}")
        if self.right != "f1" and self.at_least < 1:
            raise ValueError(
                f"--at-least {self.at_least} is for --right f1; {self.right} is 0 or 1"
            )


class Tries:
    """Rollouts of questions, in calls that are recorded in a file as they finish.

    The next call depends only on the tries so far, so that a resumed command reads the
    recorded calls from the file and makes only the remaining ones.
    """

    def __init__(
        self,
        run: Run | ServedRun,
        stage: RLStage,
        params: Params,
        questions: Sequence[Question],
        criterion: Criterion,
        path: Path,
    ):
        """Reads the calls that are recorded in the file at `path`, if it exists.

        Args:
          run: the run with the sampler and the retriever.
          stage: the stage with the task, temperature and call size.
          params: parameters in the layout of training; {} for a served model.
          questions: the questions to try.
          criterion: the criterion for a right answer.
          path: file of calls, to which this object appends.
        """
        self._run = run
        self._stage = stage
        self._task = stage.task
        self._rollout_params = run.rollout_params(params)
        self._questions = questions
        self._criterion = criterion
        self._path = path
        self._recorded = processes.broadcast_from_primary(_recorded(path))
        self._num_calls = 0

    def until_right(self, max_tries: int) -> list[Try]:
        """Tries every question until it is right, at most `max_tries` times each."""
        made: list[Try] = []
        unsolved = list(range(len(self._questions)))
        num_tried = 0
        with _progress(len(unsolved)) as settle:
            while unsolved and num_tried < max_tries:
                calls = next_calls(
                    unsolved,
                    num_tried=num_tried,
                    tries=max_tries,
                    call_size=call_size(self._stage),
                )
                num_tried, num_before = calls[0].numbers[-1], len(unsolved)
                for call in calls:
                    found = self._tries_of(call)
                    made += found
                    solved = {one.prompt_index for one in found if one.is_right}
                    unsolved = [p for p in unsolved if p not in solved]
                    is_last = num_tried == max_tries
                    settle(len(call.prompt_indices if is_last else solved))
                if processes.is_primary():
                    print(
                        f"{num_tried} of {max_tries} tries: "
                        f"{num_before - len(unsolved)} of {num_before} questions "
                        f"right, {len(unsolved)} left",
                        flush=True,
                    )
        return made

    def _tries_of(self, call: Call) -> list[Try]:
        """Tries of the next call, from the file if it is recorded there."""
        number = self._num_calls
        self._num_calls += 1
        if number < len(self._recorded):
            found = self._recorded[number]
            there = {(one.prompt_index, one.number) for one in found}
            if there != {(p, n) for p in call.prompt_indices for n in call.numbers}:
                raise ValueError(
                    f"{self._path}, line {number + 1}: the tries do not match those of "
                    "this selection, so the file was changed; choose another folder "
                    "with --out"
                )
            return found
        found = self._roll_out(call)
        if processes.is_primary():
            tries = [dataclasses.asdict(one) for one in found]
            json_lines.append_line(self._path, {"tries": tries})
        return found

    def _roll_out(self, call: Call) -> list[Try]:
        """Rolls out a call on all processes, and judges the rollouts."""
        asked = [(i, self._questions[i]) for i in call.prompt_indices]
        trajectories, _ = self._run.sampler.run(
            self._rollout_params,
            processes.process_shard(asked),
            self._run.environments.training,
            group_size=len(call.numbers),
            first_sample=call.numbers[0] - 1,
            stage=SELECTION_STAGE,
            temperature=self._stage.temperature,
        )
        failed = [t for t in trajectories if not t.is_judged]
        reasons = [_failure(t) for t in failed[:1]]
        gathered = processes.all_gather_objects((self._judged(trajectories), reasons))
        for _, failures in gathered:
            if failures:
                raise SelectionFailedError(
                    f"{failures[0]}, so its question cannot be judged; run the same "
                    "command again, which resumes"
                )
        found = [one for tries, _ in gathered for one in tries]
        return sorted(found, key=lambda one: (one.prompt_index, one.number))

    def _judged(self, trajectories: Sequence[Trajectory]) -> list[Try]:
        _, outcomes, scores = judge(trajectories, self._task)
        right, at_least = self._criterion.right, self._criterion.at_least
        return [
            Try(
                prompt_index=t.prompt_index,
                number=t.sample_index + 1,
                is_right=score[right] >= at_least,
                num_searches=len(t.searches),
                num_failed=sum(call.has_failed for call in t.searches),
                prediction=outcome.prediction,
            )
            for t, outcome, score in zip(trajectories, outcomes, scores, strict=True)
        ]


def _failure(trajectory: Trajectory) -> str:
    """Why a rollout cannot be judged, and what to fix."""
    if trajectory.status is Status.MODEL_FAILED:
        return f"the model server failed ({trajectory.failure})"
    if not trajectory.tool_calls:
        return "a tool failed (its environment names no call; fix the environment)"
    call = trajectory.tool_calls[-1]
    if call.tool != SEARCH:
        return f"the tool {call.tool!r} failed ({call.failure}; fix the tool)"
    return f"a search failed ({call.failure}; fix the retriever)"


def call_size(stage: RLStage) -> int:
    """Rollouts per call, the same as per training step."""
    return stage.questions_per_step * stage.group_size


def _progress(num_questions: int) -> contextlib.AbstractContextManager[Any]:
    """A progress bar of settled questions, on the primary process."""
    if processes.is_primary():
        return count_bar("questions settled", num_questions)
    return contextlib.nullcontext(lambda number: None)


def _try(fields: dict[str, Any]) -> Try:
    """A try from its line; files of earlier versions have `position` as the index."""
    if "position" in fields:
        fields = {**fields, "prompt_index": fields["position"]}
        del fields["position"]
    return typed(fields, Try, "a try")


def _recorded(path: Path) -> list[list[Try]]:
    """Tries of each finished call in a file; [] if there is no file.

    An incomplete last line, left by a killed command, is removed from the file.
    """
    if not path.exists():
        return []
    lines = json_lines.read_lines(path)
    if processes.is_primary():
        json_lines.replace_lines(path, lines)
    try:
        return [
            [_try(fields) for fields in typed(line.get("tries"), list[dict], "tries")]
            for line in lines
        ]
    except ValueError as error:
        raise ValueError(f"{path}: not the calls of a selection: {error}") from None
