"""A question and its golden answers."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """A question and all answers that count as correct.

    Attributes:
      id: unique within a set of questions.
      question: the text.
      golden_answers: at least one; the first is the preferred spelling.
      metadata: JSON values; `supporting_titles` lists the pages with the answer.
    """

    id: str
    question: str
    golden_answers: tuple[str, ...]
    metadata: dict = dataclasses.field(default_factory=dict, hash=False)


def flashrag_line(question: Question) -> dict[str, Any]:
    """A question as a line of a FlashRAG file."""
    return {
        "id": question.id,
        "question": question.question,
        "golden_answers": list(question.golden_answers),
        "metadata": question.metadata,
    }
