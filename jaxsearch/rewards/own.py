"""Rewards of one's own, as plain functions.

    def brief(question, answer, *, searches, row):
        if answer is None:
            return 0.0
        right = answer.strip().lower() in map(str.lower, row["golden_answers"])
        return {"right": float(right), "searches": -0.05 * len(searches)}

`stages.N.reward` takes such a function in place of the reward of the stage's task; the
task keeps its prompt, its tags and the way in which it reads an answer. Em, f1 and
cover_em stay those of the task.

- question: the text of the question.
- answer: the answer that the task reads in what the policy wrote, not normalised, the
  same that em is computed of. None if there is none: "" would be part of every golden
  answer, so that a policy without an answer could be paid.
- searches: a list of `Search`, in order. Calls of other tools are not among them.
- row: a dict with `id`, `question`, `golden_answers` and the other columns of the
  question's row: its metadata, any column that its layout does not have, and in verl's
  layout those of `extra_info`. The large ones of published datasets are left out.

It returns a number, or numbers by name. Their sum is the reward, and each of them is
the metric `reward/NAME`; a single number has the name of its function.

A function that takes `rows` instead of `row` gets lists, with one item for each
rollout of a step (in several processes: of a process), and returns a list:
`reward(questions, answers, *, searches, rows)`. Both kinds may be `async def`. Calls of
a single `async def` run concurrently; all run in the same event loop.

Several rewards are a sequence of functions, or of pairs of a function and its weight:
`((brief, 1.0), (polite, 0.1))`. Terms are multiplied by the weight, in the metrics too.
`TASK_REWARD` is the reward of the stage's task, to add to: `(TASK_REWARD, brief)`.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxsearch.user_code import call_error

RewardFunction = Callable[..., float | Mapping[str, float]]
"""(question, answer, *, searches, row) -> a number, or numbers by name."""

# Metrics `reward/NAME` that a step may have without such a function.
RESERVED = ("mean", "group_std", "overlong")

_SINGLE = "(question, answer, *, searches, row)"
_BATCHED = "(questions, answers, *, searches, rows)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """A search of a rollout.

    Attributes:
      query: the text that the policy searched for.
      result: the text that it read, without tags; "" if the rollout ended before.
      passage_ids: ids of the passages that were found, best first.
      has_failed: whether the retriever gave no answer.
    """

    query: str
    result: str
    passage_ids: tuple[str, ...] = ()
    has_failed: bool = False


@dataclasses.dataclass(frozen=True)
class TaskReward:
    """The class of `TASK_REWARD`."""


TASK_REWARD = TaskReward()
"""The reward of a stage's task, as one of several rewards."""


class Weighted(NamedTuple):
    """A reward and the factor of its terms."""

    reward: RewardFunction | TaskReward
    weight: float = 1.0


def weighted(reward: Any) -> list[Weighted]:
    """The rewards of a function, or of a sequence of functions and pairs.

    Raises:
      ValueError: if it is something else, or empty.
    """
    items = list(reward) if isinstance(reward, tuple | list) else [reward]
    found = [Weighted(*item) if _is_pair(item) else Weighted(item) for item in items]
    for item in found:
        if not (callable(item.reward) or isinstance(item.reward, TaskReward)):
            raise ValueError(
                f"a reward must be a function {_SINGLE}, or a sequence of functions or "
                f"(function, weight) pairs; got {item.reward!r:.80}"
            )
    if not found:
        raise ValueError("expected at least one reward, got an empty sequence")
    return found


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2


def check_reward(reward: Any) -> None:
    """Checks a reward, or a sequence of them, before it is called.

    Raises:
      ValueError: naming the first function that is wrong, and why.
    """
    names: list[str] = []
    for function, weight in weighted(reward):
        name = reward_name(function)
        is_number = isinstance(weight, int | float) and math.isfinite(weight)
        if not is_number or not weight:
            raise ValueError(
                f"the weight of reward {name} must be a finite number other than 0, "
                f"got {weight!r:.80}"
            )
        if isinstance(function, TaskReward):
            continue
        if error := _signature_error(function):
            raise ValueError(f"reward {name} must accept {error}")
        names.append(term_name(function))
        if names[-1] in (*RESERVED, *names[:-1]):
            raise ValueError(
                f"reward/{names[-1]} is the metric of another reward or of every run; "
                f"rename the function {name}"
            )


def _signature_error(function: RewardFunction) -> str:
    if is_batched(function):
        form = _BATCHED
        error = call_error(function, [], [], searches=[], rows=[])
    else:
        form = _SINGLE
        error = call_error(function, "", None, searches=[], row={})
    return f"{form}, but its signature is {error}" if error else ""


def is_batched(function: RewardFunction) -> bool:
    """Whether a function judges all rollouts of a step at once."""
    try:
        return "rows" in inspect.signature(function, follow_wrapped=False).parameters
    except ValueError:
        return False  # some functions that are written in C have no signature


def term_name(function: RewardFunction) -> str:
    """Name of the term of a function that returns a number without a name."""
    if isinstance(function, functools.partial):
        return term_name(function.func)
    if inspect.isroutine(function):
        return function.__name__ if function.__name__ != "<lambda>" else "reward"
    return type(function).__name__


def reward_name(function: RewardFunction | TaskReward) -> str:
    """`module:NAME` of a function, for messages."""
    if isinstance(function, TaskReward):
        return "TASK_REWARD"
    if isinstance(function, functools.partial):
        return reward_name(function.func)
    named = function if inspect.isroutine(function) else type(function)
    return f"{named.__module__}:{named.__qualname__}"
