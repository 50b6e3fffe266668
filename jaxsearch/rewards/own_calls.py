"""Calls of own rewards: one by one, in batches or concurrently, with their checks."""

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsearch.protocol import Protocol
from jaxsearch.rewards.event_loop import gathered, run
from jaxsearch.rewards.outcome import Outcome, RewardError
from jaxsearch.rewards.own import (
    RESERVED,
    RewardFunction,
    Search,
    TaskReward,
    is_batched,
    reward_name,
    term_name,
    weighted,
)
from jaxsearch.trajectory import Trajectory
from jaxsearch.user_code import error_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Judged:
    """The arguments of a reward for one rollout, and its label in messages."""

    question: str
    answer: str | None
    searches: list[Search]
    row: dict[str, Any]
    label: str


def own_outcomes(
    reward: Any,
    trajectories: Sequence[Trajectory],
    of_task: Sequence[Outcome],
    protocol: Protocol,
) -> list[Outcome]:
    """The outcomes of rollouts by a reward that `check_reward` accepts.

    Args:
      reward: a function, or a sequence of functions or pairs with weights.
      trajectories: the rollouts.
      of_task: their outcomes by the task, with the predictions.
      protocol: the protocol of the task.

    Raises:
      RewardError: if a function fails; the error names it and the question.
    """
    judged = [
        _seen(trajectory, outcome.prediction, protocol)
        for trajectory, outcome in zip(trajectories, of_task, strict=True)
    ]
    sums: list[dict[str, float]] = [{} for _ in judged]
    items = weighted(reward)
    for function, weight in items:
        if isinstance(function, TaskReward):
            found = [outcome.terms for outcome in of_task]
        else:
            found = _terms(function, judged)
        for terms, more, one in zip(sums, found, judged, strict=True):
            if twice := sorted(terms.keys() & more.keys()):
                raise RewardError(
                    f"reward {reward_name(function)} returned {twice[0]!r} for "
                    f"{one.label}, which is a term of another reward too; rename one"
                )
            terms |= {name: weight * value for name, value in more.items()}
    names = ", ".join(reward_name(function) for function, _ in items)
    return [
        Outcome(
            reward=math.fsum(terms.values()),
            terms=terms,
            reason=f"judged by {names}",
            prediction=outcome.prediction,
        )
        for terms, outcome in zip(sums, of_task, strict=True)
    ]


def searches_of(trajectory: Trajectory, protocol: Protocol) -> list[Search]:
    """The searches of a rollout, with what the policy has read of their results."""
    results = [
        protocol.unframed("".join(texts))
        for texts in protocol.search_results(trajectory.segments)
    ]
    calls = trajectory.searches
    # The result of the last call may have been too long for the rollout.
    results += [""] * (len(calls) - len(results))
    return [
        Search(
            query=call.query,
            result=result,
            passage_ids=call.passage_ids,
            has_failed=call.has_failed,
        )
        for call, result in zip(calls, results, strict=True)
    ]


def _seen(trajectory: Trajectory, answer: str | None, protocol: Protocol) -> _Judged:
    return _Judged(
        question=trajectory.question,
        answer=answer,
        searches=searches_of(trajectory, protocol),
        row={
            **trajectory.metadata,
            "id": trajectory.question_id,
            "question": trajectory.question,
            "golden_answers": list(trajectory.golden_answers),
        },
        label=f"question {trajectory.question_id!r}, answer {trajectory.sample_index}",
    )


def _terms(
    function: RewardFunction, judged: Sequence[_Judged]
) -> list[dict[str, float]]:
    """The terms that a function gives to each rollout."""
    if not judged:
        return []
    values = (_batch if is_batched(function) else _single)(function, judged)
    return [
        _checked(value, function, one.label)
        for value, one in zip(values, judged, strict=True)
    ]


def _single(function: RewardFunction, judged: Sequence[_Judged]) -> list[Any]:
    async def awaited(value: Any, one: _Judged) -> Any:
        try:
            return await value
        except Exception as error:  # a user's function may raise anything
            raise _failed(function, one, error) from error

    values = []
    for one in judged:
        try:
            value = function(
                one.question, one.answer, searches=one.searches, row=one.row
            )
        except Exception as error:  # a user's function may raise anything
            raise _failed(function, one, error) from error
        values.append(awaited(value, one) if inspect.isawaitable(value) else value)
    return gathered(values)


def _batch(function: RewardFunction, judged: Sequence[_Judged]) -> list[Any]:
    async def awaited(value: Any) -> Any:
        return await value

    label = f"{len(judged)} rollouts, the first of {judged[0].label}"
    try:
        found = function(
            [one.question for one in judged],
            [one.answer for one in judged],
            searches=[one.searches for one in judged],
            rows=[one.row for one in judged],
        )
        if inspect.isawaitable(found):
            found = run(awaited(found))
    except Exception as error:  # a user's function may raise anything
        raise RewardError(
            f"reward {reward_name(function)} raised {error_text(error)} for {label}"
        ) from error
    is_list = not isinstance(found, str | Mapping) and np.iterable(found)
    values = list(found) if is_list else []
    if not is_list or len(values) != len(judged):
        came = f"{len(values)} rewards" if is_list else f"{found!r:.80}"
        raise RewardError(
            f"reward {reward_name(function)} must return a list with one reward for "
            f"each rollout, but returned {came} for {label}"
        )
    return values


def _failed(function: RewardFunction, one: _Judged, error: Exception) -> RewardError:
    without = ", which has no answer (answer is None)" * (one.answer is None)
    return RewardError(
        f"reward {reward_name(function)} raised {error_text(error)} for {one.label}"
        f"{without}"
    )


def _checked(value: Any, function: RewardFunction, label: str) -> dict[str, float]:
    """The terms that a function returned for one rollout.

    Raises:
      RewardError: if it is neither a finite number nor some of them by name.
    """

    def refuse(problem: str) -> RewardError:
        return RewardError(f"reward {reward_name(function)} {problem} for {label}")

    terms = value if isinstance(value, Mapping) else {term_name(function): value}
    for name, number in terms.items():
        if not isinstance(name, str) or name in RESERVED:
            raise refuse(f"returned a term called {name!r:.80}; give it another name")
        if not _is_finite_number(number):
            raise refuse(
                f"must return a finite number, or such numbers by name, but returned "
                f"{value!r:.80}"
            )
    if not terms:
        raise refuse("returned an empty dict; expected numbers by name")
    return {name: float(number) for name, number in terms.items()}


def _is_finite_number(value: Any) -> bool:
    if isinstance(value, str | bytes | Sequence | Mapping) or np.shape(value):
        return False
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False
