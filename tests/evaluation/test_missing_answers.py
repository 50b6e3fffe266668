"""Answers that have no line yet: their number, and nothing else is appended."""

import dataclasses
import json

import pytest

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.evaluation import progress
from jaxsearch.evaluation.options import AnswerOptions
from jaxsearch.evaluation.sets import evaluate_sets
from jaxsearch.evaluation.subject import Subject
from jaxsearch.rewards.tasks import RESEARCH
from jaxsearch.search.exact_index import EmptyIndex
from tests.environments import search_environment
from tests.evaluation.scripted_evaluation import SETS, ScriptedSampler


@pytest.fixture
def subject():
    tokenizer = Tokenizer.load("jaxsearch:quickstart")
    return Subject(
        sampler=ScriptedSampler(None),
        params={},
        environment=search_environment(
            EmptyIndex(), RESEARCH.protocol, tokenizer, max_observation_len=200
        ),
        task=RESEARCH,
        labels={"model": "script"},
        identity={"policy": "script"},
    )


def test_questions_with_one_id_are_refused(subject, tmp_path):
    """The answer to one of them would count as that of the other."""
    first, second, *_ = SETS[0].questions
    questions = [first, dataclasses.replace(second, id=first.id)]
    twice = dataclasses.replace(SETS[0], questions=questions)
    with pytest.raises(ValueError, match="the set a: 2 questions have the id 'q0'; "):
        evaluate_sets(tmp_path / "out", subject, [SETS[1], twice])
    assert not (tmp_path / "out").exists()


def test_progress_counts_the_missing_answers_of_a_group(
    subject, tmp_path, monkeypatch, capsys
):
    answers = AnswerOptions(num_samples=2)
    results = evaluate_sets(tmp_path, subject, SETS[:1], answers)
    path = tmp_path / "predictions.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert [json.loads(line)["sample"] for line in lines[:2]] == [0, 1]
    path.write_text("".join(lines[1:-2]))
    monkeypatch.setattr(progress, "_LINE_S", 0.0)
    capsys.readouterr()
    assert evaluate_sets(tmp_path, subject, SETS[:1], answers) == results
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("3 of 3 answers (37 made before)")
    assert path.read_text() == "".join(lines)
