"""Selection of questions by difficulty: the number of tries until a policy succeeds.

R1-Searcher (arXiv:2503.05592) sorts its training questions by rollouts of
Qwen2.5-7B-Instruct: easy below 10, medium 10 to 20, difficult above 20. This module has
the parts that do not need a policy: which questions to try next, which to keep, and
counts.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from jaxsearch.data.question import Question, flashrag_line

TRIES_UNTIL_RIGHT = "tries_until_right"
NEVER = "never"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Try:
    """One judged answer to a question.

    Attributes:
      prompt_index: index of the question, from 0.
      number: number of the try for its question, from 1.
      is_right: whether the answer is right.
      num_searches: number of searches.
      num_failed: number of searches that the retriever did not answer.
      prediction: the extracted answer, if any.
    """

    prompt_index: int
    number: int
    is_right: bool
    num_searches: int
    num_failed: int
    prediction: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """Tries that are rolled out together.

    Attributes:
      prompt_indices: indices of the questions.
      numbers: numbers of the tries, the same for all of the questions.
    """

    prompt_indices: tuple[int, ...]
    numbers: range


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difficulty:
    """The result for one question.

    Attributes:
      question: the question.
      tries_until_right: number of the first right try; None if no try was right.
      tries: the tries up to the first right one. Later tries of the same call do not
        count.
    """

    question: Question
    tries_until_right: int | None
    tries: tuple[Try, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """Criteria for keeping questions.

    Attributes:
      tries: largest number of tries per question.
      min_tries: keep questions that took at least this many tries.
      max_tries: keep questions that took at most this many tries; None also keeps
        questions that were never right.

    Raises:
      ValueError: if the bounds are impossible or exclude every question.
    """

    tries: int
    min_tries: int = 1
    max_tries: int | None = None

    def __post_init__(self):
        if self.tries < 1:
            raise ValueError(f"--tries must be at least 1, got {self.tries}")
        if not 1 <= self.min_tries <= self.tries + 1:
            raise ValueError(
                f"--min-tries must be in 1..{self.tries + 1}, got {self.min_tries}; "
                f"with {self.tries} tries, {self.tries + 1} means never right"
            )
        if self.max_tries is None:
            return
        if self.max_tries < self.min_tries:
            raise ValueError(
                f"--max-tries ({self.max_tries}) is less than --min-tries "
                f"({self.min_tries}), which keeps no question"
            )
        if self.max_tries > self.tries:
            raise ValueError(
                f"--max-tries ({self.max_tries}) is more than --tries ({self.tries}); "
                "leave it out to also keep questions that were never right"
            )

    def is_kept(self, tries_until_right: int | None) -> bool:
        """Whether to keep a question first right at this try (None: never right)."""
        if tries_until_right is None:
            return self.max_tries is None
        most = self.tries if self.max_tries is None else self.max_tries
        return self.min_tries <= tries_until_right <= most


def next_calls(
    unsolved: Sequence[int], *, num_tried: int, tries: int, call_size: int
) -> list[Call]:
    """Returns calls that try every unsolved question again.

    As long as the questions fill a call, each is tried once, so that no try is wasted.
    The last few questions are tried several times per call, because most slots would be
    empty otherwise. The number of tries is a power of two, because every number of
    tries needs separately compiled programs.

    Args:
      unsolved: indices of the questions.
      num_tried: tries per question so far.
      tries: largest number of tries per question.
      call_size: rollouts per call.
    """
    num_at_once = 1
    most = min(call_size // max(len(unsolved), 1), tries - num_tried)
    while 2 * num_at_once <= most:
        num_at_once *= 2
    num_questions = max(1, call_size // num_at_once)
    numbers = range(num_tried + 1, num_tried + num_at_once + 1)
    return [
        Call(prompt_indices=tuple(unsolved[i : i + num_questions]), numbers=numbers)
        for i in range(0, len(unsolved), num_questions)
    ]


def difficulties(
    questions: Sequence[Question], tries: Iterable[Try]
) -> list[Difficulty]:
    """Returns the difficulty of each question; tries may be in any order."""
    by_prompt: dict[int, list[Try]] = defaultdict(list)
    for one in tries:
        by_prompt[one.prompt_index].append(one)
    found = []
    for prompt_index, question in enumerate(questions):
        made = sorted(by_prompt[prompt_index], key=lambda one: one.number)
        first = next((one.number for one in made if one.is_right), None)
        counted = tuple(one for one in made if first is None or one.number <= first)
        found.append(
            Difficulty(question=question, tries_until_right=first, tries=counted)
        )
    return found


def counts(found: Sequence[Difficulty], bounds: Bounds) -> dict[str, Any]:
    """Counts the questions by tries until right, and those that are kept."""
    taken = Counter(one.tries_until_right for one in found)
    num_searches = [t.num_searches for one in found for t in one.tries]
    return {
        "n": len(found),
        "kept": sum(bounds.is_kept(one.tries_until_right) for one in found),
        TRIES_UNTIL_RIGHT: {
            **{str(number): taken[number] for number in range(1, bounds.tries + 1)},
            NEVER: taken[None],
        },
        "searches_per_try": sum(num_searches) / max(len(num_searches), 1),
        "num_failed": sum(t.num_failed for one in found for t in one.tries),
    }


def tries_line(one: Difficulty) -> dict[str, Any]:
    """One line of `tries.jsonl`."""
    return {
        "id": one.question.id,
        TRIES_UNTIL_RIGHT: one.tries_until_right,
        "searches": [t.num_searches for t in one.tries],
        "num_failed": sum(t.num_failed for t in one.tries),
        "predictions": [t.prediction for t in one.tries],
    }


def question_line(one: Difficulty) -> dict[str, Any]:
    """One line of `selected.jsonl`, in FlashRAG's format.

    The number of tries is added to the question's metadata.
    """
    line = flashrag_line(one.question)
    line["metadata"] = {**line["metadata"], TRIES_UNTIL_RIGHT: one.tries_until_right}
    return line
