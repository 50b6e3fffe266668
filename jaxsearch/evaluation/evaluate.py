"""Evaluation of a policy, with the same rollouts and rewards as in training."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxsearch import processes
from jaxsearch.data.question import Question
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.evaluation.answer_table import Answers
from jaxsearch.evaluation.model_failures import ModelFailedError
from jaxsearch.evaluation.predictions import is_new, prediction_line, write_evaluation
from jaxsearch.evaluation.set_results import brief_results, grouped_results
from jaxsearch.models.transformer import Params
from jaxsearch.rewards.judge import gather_judged, judge
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.tasks import Task
from jaxsearch.rollouts.records import Timing
from jaxsearch.trajectory import Status, Trajectory

# Stage number in the random keys; training stages count from 0.
EVALUATION_STAGE = 1_000_000


@runtime_checkable
class RolloutSampler(Protocol):
    """An object that answers questions, such as `rollouts.episode.Sampler`."""

    def run(
        self,
        params: Params,
        questions: Sequence[tuple[int, Question]],
        environment: TokenEnvironment,
        *,
        group_size: int,
        stage: int,
        temperature: float,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> tuple[list[Trajectory], Timing]:
        """Rolls out `group_size` answers to each (prompt_index, question).

        Args:
          params: parameters of the policy; {} for a sampler that has none.
          questions: pairs of a prompt_index and a question, with distinct indices.
          environment: the tools that answer turns.
          group_size: G, rollouts per question; their sample_index counts from 0.
          stage: index of the stage, for the random keys.
          temperature: sampling temperature; 0 is greedy.
          on_finished: receives each trajectory once, when it finishes. It may
            be called from several threads; an error that it raises ends the call. None:
            all trajectories are returned.

        Returns:
          The trajectories that `on_finished` does not receive, sorted by question and
          sample, and the timing.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation:
    """An evaluated set of questions.

    Attributes:
      results: n, em, f1, cover_em, mean_reward, searches_per_question, by_hops, and
        num_search_failed, the number of questions with a search that failed.
      trajectories: one rollout per question.
      outcomes: reward and prediction of each trajectory.
      scores: em, f1 and cover_em of each trajectory.
      task: the task that judged them.
    """

    results: dict[str, Any]
    trajectories: list[Trajectory]
    outcomes: list[Outcome]
    scores: list[dict[str, float]]
    task: Task

    def save(
        self, folder: str | Path, results: Mapping[str, Any] | None = None
    ) -> None:
        """Writes `results.json` and `predictions.jsonl`, as `jaxsearch eval` does.

        In several processes, the first one writes.

        Args:
          folder: folder to write; it must be empty or not exist.
          results: contents of `results.json`; None for the name of the task and
            `results`.

        Raises:
          ValueError: if the folder is not empty.
        """
        folder = Path(folder)
        if not processes.is_primary():
            return
        if not is_new(folder):
            raise ValueError(f"{folder} is not empty; give a new folder")
        if results is None:
            results = {"recipe": self.task.name, **self.results}
        lines = zip(self.trajectories, self.outcomes, self.scores, strict=True)
        write_evaluation(folder, results, list(lines), self.task)

    def __repr__(self) -> str:
        shown = ("em", "f1", "mean_reward", "searches_per_question")
        values = ", ".join(f"{name} {self.results[name]:.3f}" for name in shown)
        return f"Evaluation(n {self.results['n']}, {values})"


def evaluate(
    sampler: RolloutSampler,
    params: Params,
    questions: Sequence[Question],
    environment: TokenEnvironment,
    task: Task,
    *,
    temperature: float = 0.0,
) -> Evaluation:
    """Rolls out one answer per question and judges it.

    The processes of a run share the questions, and all of them return every result.

    Args:
      sampler: the sampler that makes the rollouts.
      params: parameters in the layout of rollouts.
      questions: the questions.
      environment: the tools that answer the policy.
      task: the task that judges the rollouts.
      temperature: sampling temperature; 0 is greedy.

    Raises:
      ValueError: if there are no questions.
      ModelFailedError: if a model server failed to give an answer.
    """
    if not questions:
        raise ValueError("expected at least one question to evaluate on, got none")
    trajectories, _ = sampler.run(
        params,
        processes.process_shard(list(enumerate(questions))),
        environment,
        group_size=1,
        stage=EVALUATION_STAGE,
        temperature=temperature,
    )
    trajectories, outcomes, scores = gather_judged(judge(trajectories, task))
    for one in trajectories:
        if one.status is Status.MODEL_FAILED:
            # Otherwise it would count as a wrong answer.
            raise ModelFailedError(f"question {one.question_id!r:.80}: {one.failure}")
    results = _results(trajectories, outcomes, scores)
    results["temperature"] = temperature
    return Evaluation(
        results=results,
        trajectories=trajectories,
        outcomes=outcomes,
        scores=scores,
        task=task,
    )


def _results(
    trajectories: Sequence[Trajectory],
    outcomes: Sequence[Outcome],
    scores: Sequence[dict[str, float]],
) -> dict[str, Any]:
    """The results of one rollout per question, with a group for each `hops`."""
    answers = Answers()
    for i, row in enumerate(zip(trajectories, outcomes, scores, strict=True)):
        # Questions of `jaxsearch.evaluate` may share an id.
        answers.add(prediction_line(*row) | {"id": str(i)})
    table = answers.table()
    groups = grouped_results(table, "hops")
    by_hops = {
        hops: {name: group[name] for name in ("n", "em", "searches")}
        for hops, group in groups.items()
    }
    return brief_results(table) | ({"by_hops": by_hops} if by_hops else {})
