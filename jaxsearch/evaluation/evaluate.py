"""Evaluation of a policy, with the same rollouts and rewards as in training."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch import processes
from jaxsearch.data.formats import Question
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.evaluation.predictions import is_new, write_evaluation
from jaxsearch.models.transformer import Params
from jaxsearch.rewards.judge import gather_judged, judge
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.tasks import Task
from jaxsearch.rollouts.episode import Sampler
from jaxsearch.trajectory import SEARCH, Trajectory

# Stage number in the random keys; training stages count from 0.
EVALUATION_STAGE = 1_000_000


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
    sampler: Sampler,
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
    groups: dict[str, list[int]] = defaultdict(list)
    for i, question in enumerate(questions):
        if "hops" in question.metadata:
            groups[str(question.metadata["hops"])].append(i)
    results: dict[str, Any] = {
        "n": len(questions),
        **{key: _mean([s[key] for s in scores]) for key in ("em", "f1", "cover_em")},
        "mean_reward": _mean([outcome.reward for outcome in outcomes]),
        "searches_per_question": _mean([len(t.searches) for t in trajectories]),
        "num_search_failed": sum(
            any(call.has_failed for call in t.searches) for t in trajectories
        ),
        "temperature": temperature,
    }
    others = {c.tool for t in trajectories for c in t.tool_calls} - {SEARCH}
    if others:
        results["calls_per_question"] = {
            tool: _mean(
                [sum(c.tool == tool for c in t.tool_calls) for t in trajectories]
            )
            for tool in sorted(others)
        }
    if groups:
        results["by_hops"] = {
            hops: {
                "n": len(members),
                "em": _mean([scores[i]["em"] for i in members]),
                "searches": _mean([len(trajectories[i].searches) for i in members]),
            }
            for hops, members in sorted(groups.items())
        }
    return Evaluation(
        results=results,
        trajectories=trajectories,
        outcomes=outcomes,
        scores=scores,
        task=task,
    )


def _mean(values: Sequence[float | int]) -> float:
    return sum(values) / len(values)
