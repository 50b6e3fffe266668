"""Tests of questions stored on disk."""

import json

import pytest

from jaxsearch.data import question_store
from jaxsearch.data.formats import read_questions
from jaxsearch.data.question_builder import QuestionBuilder, SetInfo, store_questions
from jaxsearch.data.question_store import open_questions, read_all
from tests.data.conftest import NUM_QUESTIONS


def test_stored_questions_come_back_in_order(source, questions):
    assert len(source) == NUM_QUESTIONS
    assert read_all(source) == questions
    assert source[3] == questions[3]


def test_a_file_and_its_list_are_one_cache_entry(questions, tmp_path):
    path = tmp_path / "q.jsonl"
    fields = ("id", "question", "golden_answers", "metadata")
    with path.open("w") as file:
        for question in questions:
            record = {name: vars(question)[name] for name in fields}
            file.write(json.dumps(record) + "\n")
    from_file = open_questions(read_questions(path), tmp_path / "cache")
    from_list = open_questions(questions, tmp_path / "cache")
    assert from_file.fingerprint == from_list.fingerprint
    assert read_all(from_file) == questions
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_second_open_reads_what_the_first_stored(
    source, questions, tmp_path, monkeypatch
):
    def refuse(*args):
        raise AssertionError("stored a second time")

    monkeypatch.setattr(question_store, "store_questions", refuse)
    assert read_all(open_questions(questions, tmp_path / "cache")) == questions
    changed = [*questions[:-1], questions[0]]
    with pytest.raises(ValueError, match="'q0' 2 times"):
        open_questions(changed, tmp_path / "cache")
    with pytest.raises(AssertionError, match="second time"):
        open_questions(questions[::-1], tmp_path / "cache")


def test_storing_lost_to_another_process_uses_the_other_copy(
    source, questions, tmp_path
):
    [stored] = (tmp_path / "cache").iterdir()
    before = stored.stat().st_ino
    store_questions(questions, stored, SetInfo())
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [stored.name]
    assert stored.stat().st_ino == before
    assert read_all(source) == questions


def test_a_failed_store_leaves_no_entry(questions, tmp_path, monkeypatch):
    def fail(self):
        yield 0, {"id": "q0", "question": "?", "golden_answers": [], "metadata": "{}"}
        raise OSError("disk full")

    monkeypatch.setattr(QuestionBuilder, "_generate_examples", fail)
    with pytest.raises(OSError, match="disk full"):
        open_questions(questions, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.undo()
    assert read_all(open_questions(questions, tmp_path / "cache")) == questions


def test_storing_writes_nothing_to_stdout(questions, tmp_path, capsys):
    open_questions(questions, tmp_path / "cache")
    assert capsys.readouterr().out == ""


def test_no_questions(tmp_path):
    with pytest.raises(ValueError, match="at least one question"):
        open_questions([], tmp_path)
