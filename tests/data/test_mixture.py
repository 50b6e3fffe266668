"""Mixtures of question sets: their text, their ids, and the order they are drawn in."""

import json

import pytest

from jaxsearch.data.formats import read_questions
from jaxsearch.data.mixture import (
    Mixture,
    WeightedSource,
    check_unweighted,
    parse_questions,
    questions_by_source,
    read_from,
)
from jaxsearch.data.question import Question
from jaxsearch.data.question_store import open_questions
from jaxsearch.data.question_stream import QuestionStream

WEIGHTS = (2.0, 1.0)


def mixture(**weights):
    return Mixture(
        sources=tuple(
            WeightedSource(path=p, weight=float(w)) for p, w in weights.items()
        )
    )


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("hotpotqa=2,2wiki=1", {"hotpotqa": 2, "2wiki": 1}),
        ("a.jsonl,b/c.csv=0.5", {"a.jsonl": 1, "b/c.csv": 0.5}),
        ("nq/train=1e-2,hf://o/n/f.jsonl@v1=3", None),
        ("split=1/a.jsonl,b=1.jsonl", {"split=1/a.jsonl": 1, "b=1.jsonl": 1}),
        ("nq=3", {"nq": 3}),
    ],
)
def test_text_and_mixture(text, weights):
    found = parse_questions(text)
    assert parse_questions(str(found)) == found
    if weights:
        assert found == mixture(**weights)
    else:
        assert [s.path for s in found.sources] == ["nq/train", "hf://o/n/f.jsonl@v1"]


@pytest.mark.parametrize("text", ["", "a.jsonl", "nq", "a=b/c.jsonl", "hf://o/n@v1"])
def test_one_path_is_no_mixture(text):
    assert parse_questions(text) == text


def test_a_text_may_be_longer_than_the_name_of_a_file():
    weights = {f"set_{i}": i for i in range(1, 40)}
    text = ",".join(f"{name}={weight}" for name, weight in weights.items())
    assert len(text) > 255 and parse_questions(text) == mixture(**weights)
    for one in ("a" * 300, f"nq/{'a' * 300}", "a" * 300 + ".jsonl"):
        assert parse_questions(one) == one
        with pytest.raises(ValueError, match=r"no such file|expected a file ending"):
            read_questions(one)


def test_an_existing_file_is_no_mixture(tmp_path):
    path = tmp_path / "one,two=3"
    path.touch()
    assert parse_questions(str(path)) == str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nq=two", "nq=two: expected a weight such as 2 or 0.5 after `=`, got 'two'"),
        ("nq=0,2wiki=1", "weight of nq in a mixture must be positive and finite"),
        ("nq=inf,2wiki", "weight of nq in a mixture must be positive and finite"),
        ("nq=nan,2wiki", "weight of nq in a mixture must be positive and finite"),
        ("nq,nq=2", "nq is in the mixture 2 times"),
        ("nq,,2wiki", "needs a path or a name"),
    ],
)
def test_bad_mixtures(text, said):
    with pytest.raises(ValueError, match=said):
        parse_questions(text)


def question(id_):
    return Question(id=id_, question=f"What is {id_}?", golden_answers=("a",))


def test_equal_ids_of_two_sets_stay_apart():
    sets = {"nq/train": ["train_0"], "x/q.jsonl": ["train_0"], "y/q.jsonl": ["train_0"]}
    found = read_from(
        "nq/train,x/q.jsonl=2,y/q.jsonl", lambda path: [*map(question, sets[path])]
    )
    labels = ["nq/train", "x/q.jsonl", "y/q.jsonl"]  # two files have the same name
    assert [one.id for one in found] == [f"{label}/train_0" for label in labels]
    assert [one.metadata for one in found] == [{"set": label} for label in labels]
    assert mixture(**{"x/q.jsonl.gz": 1, "nq": 1}).labels == ("q", "nq")


def test_a_source_without_questions_cannot_be_mixed():
    both = mixture(nq=2, popqa=1)
    questions = read_from(both, lambda path: [question(path)])
    assert [len(part) for part in questions_by_source(questions, both)] == [1, 1]
    with pytest.raises(ValueError, match="no question of popqa is left .* nq=2,popqa"):
        questions_by_source(questions[:1], both)


def test_an_evaluation_has_no_weights():
    check_unweighted("nq,popqa")
    check_unweighted("nq")
    with pytest.raises(ValueError, match="nq=2,popqa=1: .* leave them out: nq,popqa"):
        check_unweighted("nq=2,popqa")


@pytest.fixture
def sources(tmp_path):
    """Sets of 5 and of 3 questions."""
    return [
        open_questions([question(f"{name}{i}") for i in range(num)], tmp_path)
        for name, num in (("a", 5), ("b", 3))
    ]


def drawn(stream, num):
    return [question.id for _, question in stream.next_batch(num)]


def test_sources_are_drawn_in_proportion_each_with_its_own_epochs(sources):
    ids = drawn(QuestionStream(sources, seed=0, weights=WEIGHTS), 45)
    for start in range(0, 45, 3):
        assert [id_[0] for id_ in sorted(ids[start : start + 3])] == ["a", "a", "b"]
    for name, num in (("a", 5), ("b", 3)):
        own = [id_ for id_ in ids if id_[0] == name]
        epochs = [tuple(own[i : i + num]) for i in range(0, len(own), num)]
        assert all(len(set(epoch)) == num for epoch in epochs[:5])
        assert len(set(epochs)) > 1
    assert ids != drawn(QuestionStream(sources, seed=1, weights=WEIGHTS), 45)


def test_one_source_keeps_the_order_and_the_state_that_it_has_alone(sources):
    alone = QuestionStream(sources[0], seed=3)
    listed = QuestionStream(sources[:1], seed=3, weights=[7.0])
    assert alone.next_batch(12) == listed.next_batch(12)
    assert alone.state() == listed.state()


@pytest.mark.parametrize("process_count", [2, 3, 4])
def test_processes_partition_a_mixture(sources, process_count):
    whole = QuestionStream(sources, seed=5, weights=WEIGHTS).next_batch(24)
    parts = [
        QuestionStream(
            sources,
            seed=5,
            weights=WEIGHTS,
            process_index=index,
            process_count=process_count,
        ).next_batch(24 // process_count)
        for index in range(process_count)
    ]
    joined = [pair for part in parts for pair in part]
    assert sorted(joined, key=lambda pair: pair[0]) == whole


@pytest.mark.parametrize("num_drawn", [0, 1, 7, 100_003])
def test_a_mixture_resumes_exactly(sources, num_drawn):
    def stream():
        return QuestionStream(sources, seed=3, weights=WEIGHTS)

    start = stream().state() | {"position": num_drawn}
    first = stream()
    first.restore(start)
    first.next_batch(4)
    state = json.loads(json.dumps(first.state()))
    expected = first.next_batch(20)
    assert expected[0][0] == num_drawn + 4
    resumed = stream()
    resumed.restore(state)
    assert resumed.next_batch(20) == expected


def test_other_weights_or_sources_do_not_resume(sources):
    state = QuestionStream(sources, seed=3, weights=WEIGHTS).state()
    for others, weights in ((sources, (1.0, 1.0)), (sources[::-1], WEIGHTS)):
        with pytest.raises(ValueError, match="fingerprint"):
            QuestionStream(others, seed=3, weights=weights).restore(state)
