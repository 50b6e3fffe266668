"""Judging of rollouts by a task, in training, evaluation and selection."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from jaxsearch import processes
from jaxsearch.metrics import Mean, trajectory_metrics
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.own_calls import own_outcomes
from jaxsearch.rewards.tasks import Task
from jaxsearch.trajectory import Status, Trajectory


class Judged(NamedTuple):
    """Rollouts with their rewards, as parallel lists.

    Attributes:
      scores: em, f1 and cover_em of each answer.
    """

    trajectories: list[Trajectory]
    outcomes: list[Outcome]
    scores: list[dict[str, float]]


def judge(trajectories: Sequence[Trajectory], task: Task) -> Judged:
    """The reward and answer metrics of each trajectory; 0 if a failure ended it.

    Raises:
      RewardError: if the task's reward function fails; the error names the question.
    """
    outcomes = [
        task.judge(
            t.segments,
            t.golden_answers,
            has_ended=t.has_ended,
            label=f"question {t.question_id!r}, answer {t.sample_index}",
        )
        if t.is_judged
        else _not_judged(t)
        for t in trajectories
    ]
    if task.own_reward is not None:
        is_judged = [t.is_judged for t in trajectories]
        own = iter(
            own_outcomes(
                task.own_reward,
                list(itertools.compress(trajectories, is_judged)),
                list(itertools.compress(outcomes, is_judged)),
                task.protocol,
            )
        )
        outcomes = [
            next(own) if judged else outcome
            for outcome, judged in zip(outcomes, is_judged, strict=True)
        ]
    scores = [
        task.metrics(outcome.prediction, t.golden_answers)
        for outcome, t in zip(outcomes, trajectories, strict=True)
    ]
    return Judged(list(trajectories), outcomes, scores)


def gather_judged(judged: Judged) -> Judged:
    """The judged rollouts of all processes, sorted by prompt, then by sample.

    Afterwards every process has the same values, so that everything computed over the
    whole batch (advantages, microbatches, metrics) is independent of the number of
    processes.
    """
    own = list(zip(*judged, strict=True))
    rows = [row for part in processes.all_gather_objects(own) for row in part]
    rows.sort(key=lambda row: (row[0].prompt_index, row[0].sample_index))
    return Judged(*(list(column) for column in zip(*rows, strict=True)))


def joined(parts: Sequence[Judged]) -> Judged:
    """The judged rollouts of several batches, in order."""
    columns = zip(*parts, strict=True)
    return Judged(*(list(itertools.chain(*column)) for column in columns))


def judged_metrics(judged: Judged, task: Task) -> dict[str, Mean | float]:
    """`trajectory_metrics` of judged rollouts."""
    return trajectory_metrics(
        judged.trajectories,
        judged.outcomes,
        em=[score["em"] for score in judged.scores],
        f1=[score["f1"] for score in judged.scores],
        thoughts=[task.protocol.thought(t.segments) for t in judged.trajectories],
    )


def _not_judged(trajectory: Trajectory) -> Outcome:
    """The outcome of a rollout that a failed tool or server ended."""
    # A failed search counts as wrong, because the policy could not answer.
    reason = "its search failed"
    if trajectory.status is Status.MODEL_FAILED:
        reason = trajectory.failure
    return Outcome(reward=0.0, terms={}, reason=reason, prediction=None)
