"""Answers that have no line yet: their number, and nothing else is appended."""

import json

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.evaluation import progress
from jaxsearch.evaluation.options import AnswerOptions
from jaxsearch.evaluation.sets import evaluate_sets
from jaxsearch.evaluation.subject import Subject
from jaxsearch.rewards.tasks import RESEARCH
from jaxsearch.search.exact_index import EmptyIndex
from tests.environments import search_environment
from tests.evaluation.scripted_evaluation import SETS, ScriptedSampler


def test_progress_counts_the_missing_answers_of_a_group(tmp_path, monkeypatch, capsys):
    tokenizer = Tokenizer.load("jaxsearch:quickstart")
    subject = Subject(
        sampler=ScriptedSampler(None),
        params={},
        environment=search_environment(
            EmptyIndex(), RESEARCH.protocol, tokenizer, max_observation_len=200
        ),
        task=RESEARCH,
        labels={"model": "script"},
        identity={"policy": "script"},
    )
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
