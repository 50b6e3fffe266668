"""Questions as the user of a notebook writes them."""

from collections.abc import Sequence

from jaxsearch.data.question import Question

Asked = str | tuple[str, str | Sequence[str]] | Question
"""A question; or a pair of a question and its answer, or all its answers."""
Questions = Asked | Sequence[Asked]


def as_questions(questions: Questions, *, need_answers: bool = False) -> list[Question]:
    """A list of questions, whose ids are their positions unless they have others.

    Args:
      questions: one question or several.
      need_answers: whether each needs a golden answer.

    Raises:
      ValueError: if there is none, one is of another type, or has no golden answer
        although it needs one.
    """
    if isinstance(questions, str | Question) or _is_pair(questions):
        questions = [questions]
    found = [_question(number, one) for number, one in enumerate(questions)]
    if not found:
        raise ValueError("expected at least one question, got none")
    if need_answers:
        for question in found:
            if not question.golden_answers:
                raise ValueError(
                    f"question {question.question!r:.80} has no golden answer, which a "
                    "reward needs: give a pair (question, answer)"
                )
    return found


def _is_pair(value: object) -> bool:
    """Whether this is a question and its answers, not two questions."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _question(number: int, asked: object) -> Question:
    """One question.

    Raises:
      ValueError: if it is of another type.
    """
    if isinstance(asked, Question):
        return asked
    text, golden = asked if _is_pair(asked) else (asked, ())
    golden = (golden,) if isinstance(golden, str) else golden
    is_text = isinstance(text, str) and text.strip()
    if not is_text or not all(isinstance(answer, str) for answer in golden):
        raise ValueError(
            "a question is a text, a pair (question, answer) or a Question, got "
            f"{asked!r:.80} at position {number}"
        )
    return Question(id=str(number), question=text, golden_answers=tuple(golden))
