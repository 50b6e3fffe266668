"""Names of sets of questions, and random samples of them."""

import dataclasses

import pytest

from jaxsearch.data.question import Question
from jaxsearch.evaluation.question_sets import QuestionSet, named_sources, sample_of

QUESTIONS = [
    Question(id=f"q{i}", question=f"Who is {i}?", golden_answers=("Ann",))
    for i in range(50)
]


def names(*texts: str) -> list[str]:
    return list(named_sources(texts))


def test_a_set_has_the_name_of_its_file():
    assert names("a/hotpotqa_dev.jsonl.gz") == ["hotpotqa_dev"]
    assert names("hf://org/name/nq/test.parquet@main") == ["test"]
    assert names("musique") == ["musique"]
    assert names("hotpotqa/dev", "a/q.jsonl") == ["hotpotqa/dev", "q"]


def test_folders_tell_files_of_the_same_name_apart():
    assert names("nq/test.jsonl", "popqa/test.jsonl") == ["nq/test", "popqa/test"]
    assert names("nq/test.jsonl", "musique/dev.jsonl") == ["test", "dev"]


def test_a_set_may_be_named():
    assert named_sources(["nq=a/test.jsonl", "b=a/test.jsonl"]) == {
        "nq": "a/test.jsonl",
        "b": "a/test.jsonl",
    }


def test_a_mixture_may_be_longer_than_the_name_of_a_file():
    mixture = ",".join(f"set_{i}" for i in range(40))
    assert named_sources([f"many={mixture}"]) == {"many": mixture}


def test_an_equals_sign_may_belong_to_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.jsonl").touch()
    assert named_sources(["a=b.jsonl"]) == {"a=b": "a=b.jsonl"}


@pytest.mark.parametrize("texts", [("x.jsonl", "x.jsonl"), ("a=x.jsonl", "a=y.jsonl")])
def test_sets_of_one_name_are_refused(texts):
    with pytest.raises(ValueError, match="two sets of questions have the name"):
        named_sources(texts)


def test_a_sample_is_random_but_for_its_seed():
    found = sample_of(QUESTIONS, 10, seed=1)
    assert found == sample_of(QUESTIONS, 10, seed=1)
    assert len(found) == 10 and found != QUESTIONS[:10]
    assert found == sorted(found, key=QUESTIONS.index)
    assert found != sample_of(QUESTIONS, 10, seed=2)


def test_a_sample_is_part_of_a_larger_one():
    small, large = (sample_of(QUESTIONS, n, seed=3) for n in (10, 30))
    assert {q.id for q in small} < {q.id for q in large}
    assert sample_of(QUESTIONS, 99, seed=3) == QUESTIONS


def test_the_record_of_a_set_depends_on_its_questions():
    first, second = (
        QuestionSet(name="a", source="f", questions=part, num_all=50).record()
        for part in (QUESTIONS[:5], QUESTIONS[1:6])
    )
    assert first.digest != second.digest
    assert dataclasses.replace(first, digest=second.digest) == second
