"""A policy on a set of questions, by the same rollout and rewards as training."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from jaxsearch import processes
from jaxsearch.data.formats import Question
from jaxsearch.env.search import Observer
from jaxsearch.models.transformer import Params
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.tasks import Task
from jaxsearch.rollout.episode import Sampler
from jaxsearch.trajectory import Status, Trajectory

# A retriever that is away neither pays nor excuses: the question counts as wrong.
_SEARCH_FAILED = Outcome(
    reward=0.0, parts={}, reason="its search failed", prediction=None
)

# Apart from the stages of training, which count from 0.
EVALUATION_STAGE = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a policy did.

    Attributes:
      results: n, em, f1, cover_em, mean_reward, searches_per_question, by_hops, and
        num_search_failed, questions with a search that failed.
      scores: em, f1 and cover_em of each trajectory.
    """

    results: dict[str, Any]
    trajectories: list[Trajectory]
    outcomes: list[Outcome]
    scores: list[dict[str, float]]


def judge(
    trajectories: Sequence[Trajectory], task: Task
) -> tuple[list[Outcome], list[dict[str, float]]]:
    """Reward and answer metrics of each trajectory; 0 for one whose search failed.

    Errors: RewardError if the recipe's reward fails; it names the question.
    """
    outcomes = [
        _SEARCH_FAILED
        if t.status is Status.TOOL_FAILED
        else task.judged(
            t.segments,
            t.golden_answers,
            has_ended=t.has_ended,
            whose=f"question {t.question_id!r}, answer {t.sample_index}",
        )
        for t in trajectories
    ]
    scores = [
        task.metrics(outcome.prediction, t.golden_answers)
        for outcome, t in zip(outcomes, trajectories, strict=True)
    ]
    return outcomes, scores


def gather_judged(
    trajectories: Sequence[Trajectory],
    outcomes: Sequence[Outcome],
    scores: Sequence[dict[str, float]],
) -> tuple[list[Trajectory], list[Outcome], list[dict[str, float]]]:
    """Of all processes together, in the order of the question stream, then of samples.

    From here on every process goes on with the same values, so that whatever is
    computed over the whole batch (advantages, microbatches, metrics) is the same in
    one process and in many.
    """
    own = list(zip(trajectories, outcomes, scores, strict=True))
    judged = [one for part in processes.all_gather_objects(own) for one in part]
    judged.sort(key=lambda one: (one[0].prompt_index, one[0].sample_index))
    return tuple(list(column) for column in zip(*judged, strict=True))


def evaluate(
    sampler: Sampler,
    params: Params,
    questions: Sequence[Question],
    observer: Observer,
    task: Task,
    *,
    temperature: float = 0.0,
) -> Evaluation:
    """One rollout per question; temperature 0 is greedy.

    Several processes take a share of the questions each, and all get everything.

    Errors: ValueError if there is no question.
    """
    if not questions:
        raise ValueError("expected at least one question to evaluate on, got none")
    trajectories, _ = sampler.run(
        params,
        processes.process_shard(list(enumerate(questions))),
        observer,
        group_size=1,
        stage=EVALUATION_STAGE,
        temperature=temperature,
    )
    trajectories, outcomes, scores = gather_judged(
        trajectories, *judge(trajectories, task)
    )
    groups: dict[str, list[int]] = defaultdict(list)
    for i, question in enumerate(questions):
        if "hops" in question.metadata:
            groups[str(question.metadata["hops"])].append(i)
    results: dict[str, Any] = {
        "n": len(questions),
        **{key: _mean([s[key] for s in scores]) for key in ("em", "f1", "cover_em")},
        "mean_reward": _mean([outcome.reward for outcome in outcomes]),
        "searches_per_question": _mean([len(t.tool_calls) for t in trajectories]),
        "num_search_failed": sum(
            any(call.has_failed for call in t.tool_calls) for t in trajectories
        ),
        "temperature": temperature,
    }
    if groups:
        results["by_hops"] = {
            hops: {
                "n": len(members),
                "em": _mean([scores[i]["em"] for i in members]),
                "searches": _mean([len(trajectories[i].tool_calls) for i in members]),
            }
            for hops, members in sorted(groups.items())
        }
    return Evaluation(
        results=results, trajectories=trajectories, outcomes=outcomes, scores=scores
    )


def _mean(values: Sequence[float | int]) -> float:
    return sum(values) / len(values)
