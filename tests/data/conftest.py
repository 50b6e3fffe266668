"""Fixtures: questions, and their store."""

import pytest

from jaxsearch.data.question import Question
from jaxsearch.data.question_store import open_questions

NUM_QUESTIONS = 11  # not divisible by any number of processes or batch size below


@pytest.fixture
def questions():
    return [
        Question(
            id=f"q{(7 * i) % NUM_QUESTIONS}",
            question=f"Où est le numéro {i}?",
            golden_answers=tuple(f"answer {j}" for j in range(1 + i % 3)),
            metadata={"supporting_titles": ["Ō"], "hops": i} if i % 2 else {},
        )
        for i in range(NUM_QUESTIONS)
    ]


@pytest.fixture
def source(questions, tmp_path):
    return open_questions(questions, tmp_path / "cache")
