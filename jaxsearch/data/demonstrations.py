"""Demonstrations for a supervised warm-up: rollouts written from templates."""

import dataclasses
import random
from collections.abc import Sequence

from jaxsearch.data.evidence import quoted
from jaxsearch.data.formats import Question
from jaxsearch.protocol import RESEARCH, Protocol
from jaxsearch.protocol.research import ReSearch
from jaxsearch.search.passages import Passage

_FIRST = (
    "I should look up {title} first.",
    "The question turns on {title}, so I search for it.",
    "Let me start with {title}.",
    "I do not know enough about {title} yet.",
)
_NEXT = (
    "Now I need {title}.",
    "That helps. Next I look up {title}.",
    "The other part should be under {title}.",
    "I still have to read about {title}.",
)
_LAST = (
    "Put together, these passages say {answer}.",
    "I have read enough: it is {answer}.",
    "So the answer is {answer}.",
)
# Short thoughts, which do not repeat what is searched for.
_LOOK_UP = (
    "I have to look this up.",
    "Let me search for this.",
    "A search will tell.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A question answered with searches, in the form of a rollout.

    Attributes:
      question: the question.
      turns: the texts of the policy. A turn after an observation begins with a space,
        as ReSearch's policies write it.
      observations: the passages found after each turn except the last, not rendered;
        None for what the search or the tool then answers.

    Raises:
      ValueError: if the number of observations is not one less than the number of
        turns.
    """

    question: Question
    turns: tuple[str, ...]
    observations: tuple[tuple[Passage, ...] | None, ...]

    def __post_init__(self):
        if len(self.observations) != len(self.turns) - 1:
            raise ValueError(
                f"question {self.question.id}: expected an observation after every "
                f"turn but the last, got {len(self.turns)} turns and "
                f"{len(self.observations)} observations"
            )


def demonstrate(
    question: Question,
    searches: Sequence[tuple[str, tuple[Passage, ...]]],
    *,
    rng: random.Random,
    protocol: Protocol = RESEARCH,
) -> Demonstration:
    """Makes a demonstration that searches and gives the first golden answer.

    Args:
      question: the question.
      searches: (query, passages found), in the order of the searches.
      rng: chooses the wording of the thoughts.
      protocol: writes the turns.
    """
    turns = []
    for query, _ in searches:
        thought = rng.choice(_NEXT if turns else _FIRST).format(title=query)
        space = " " if turns else ""
        turns.append(space + protocol.search_turn(thought, query))
    answer = question.golden_answers[0]
    thought = rng.choice(_LAST).format(answer=answer)
    space = " " if turns else ""
    turns.append(space + protocol.answer_turn(thought, answer))
    return Demonstration(
        question=question,
        turns=tuple(turns),
        observations=tuple(passages for _, passages in searches),
    )


def demonstrate_reading(
    question: Question,
    query: str,
    passages: tuple[Passage, ...],
    *,
    num_words: int,
    rng: random.Random,
    protocol: ReSearch = RESEARCH,
) -> Demonstration:
    """Makes a short demonstration: one search, then the first golden answer.

    The thought before the answer quotes the sentence in which the answer stands. To
    copy a sentence that is like the question, and to answer with a part of it, are
    steps that a small model can learn from a few examples.

    Args:
      question: the question.
      query: what is searched for.
      passages: the passages found, in which the answer can be read.
      num_words: words of them that are read.
      rng: chooses the wording of the first thought.
      protocol: writes the turns.
    """
    answer = question.golden_answers[0]
    thought = quoted(question.question, answer, passages, num_words=num_words)
    return Demonstration(
        question=question,
        turns=(
            protocol.search_turn(rng.choice(_LOOK_UP), query),
            " " + protocol.brief_answer_turn(thought, answer),
        ),
        observations=(passages,),
    )
