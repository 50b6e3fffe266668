"""Tests of the selection of questions by difficulty."""

import pytest

from jaxsearch import json_lines
from jaxsearch.data.formats import read_questions
from jaxsearch.data.question import Question
from jaxsearch.data.selection import (
    Bounds,
    Try,
    counts,
    difficulties,
    next_calls,
    question_line,
    tries_line,
)

# Right at try 1, 3, never (of 3).
RIGHTS = {0: (1,), 1: (0, 0, 1), 2: (0, 0, 0)}


def a_try(prompt_index, number, is_right, num_searches=2):
    return Try(
        prompt_index=prompt_index,
        number=number,
        is_right=bool(is_right),
        num_searches=num_searches,
        num_failed=0,
        prediction=f"{prompt_index}-{number}",
    )


@pytest.fixture
def questions():
    return [
        Question(
            id=f"q{i}",
            question=f"What is {i}?",
            golden_answers=(str(i), "x"),
            metadata={"hops": 2},
        )
        for i in RIGHTS
    ]


@pytest.fixture
def tries():
    return [
        a_try(prompt_index, number, is_right)
        for prompt_index, rights in RIGHTS.items()
        for number, is_right in enumerate(rights, start=1)
    ]


def asked(calls):
    return sorted(
        (p, n) for call in calls for p in call.prompt_indices for n in call.numbers
    )


def test_many_questions_are_tried_once_a_round():
    calls = next_calls(range(10), num_tried=2, tries=9, call_size=4)
    assert [len(call.prompt_indices) for call in calls] == [4, 4, 2]
    assert asked(calls) == [(p, 3) for p in range(10)]


def test_the_last_questions_are_tried_several_times_at_once():
    [call] = next_calls([5, 7], num_tried=3, tries=20, call_size=19)
    # Two questions fit into 19 rollouts eight times, but not sixteen times.
    assert (call.prompt_indices, list(call.numbers)) == ((5, 7), list(range(4, 12)))
    [call] = next_calls([5], num_tried=14, tries=20, call_size=100)
    assert list(call.numbers) == [15, 16, 17, 18]  # of the six tries that are left


def test_a_call_that_is_smaller_than_a_group_tries_one_question():
    calls = next_calls([1, 2], num_tried=0, tries=1, call_size=1)
    assert [call.prompt_indices for call in calls] == [(1,), (2,)]


def test_tries_after_the_right_one_do_not_count(questions, tries):
    in_vain = [a_try(0, 2, True, 9), a_try(0, 3, False, 9)]
    found = difficulties(questions, [*in_vain, *reversed(tries)])
    assert found == difficulties(questions, tries)
    assert [one.tries_until_right for one in found] == [1, 3, None]
    assert [len(one.tries) for one in found] == [1, 3, 3]


@pytest.mark.parametrize(
    ("least", "most", "kept"),
    [
        (1, None, [1, 2, 3, None]),
        (1, 3, [1, 2, 3]),
        (2, 2, [2]),
        (3, None, [3, None]),
        (4, None, [None]),
    ],
)
def test_bounds_keep(least, most, kept):
    bounds = Bounds(tries=3, min_tries=least, max_tries=most)
    assert [t for t in (1, 2, 3, None) if bounds.is_kept(t)] == kept


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tries": 0}, "--tries must be at least 1, got 0"),
        ({"tries": 3, "min_tries": 0}, "must be in 1..4, got 0"),
        ({"tries": 3, "min_tries": 5}, "must be in 1..4, got 5"),
        ({"tries": 3, "min_tries": 3, "max_tries": 2}, "keeps no question"),
        ({"tries": 3, "max_tries": 4}, r"more than --tries \(3\)"),
    ],
)
def test_bounds_that_tell_nothing_apart_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Bounds(**values)


def test_counts_are_those_of_the_lines(questions, tries):
    bounds = Bounds(tries=3, min_tries=2)
    found = difficulties(questions, tries)
    counted = counts(found, bounds)
    assert counted == {
        "n": 3,
        "kept": 2,
        "tries_until_right": {"1": 1, "2": 0, "3": 1, "never": 1},
        "searches_per_try": 2.0,
        "num_failed": 0,
    }
    assert tries_line(found[1]) == {
        "id": "q1",
        "tries_until_right": 3,
        "searches": [2, 2, 2],
        "num_failed": 0,
        "predictions": ["1-1", "1-2", "1-3"],
    }


def test_selected_questions_are_read_again(questions, tries, tmp_path):
    path = tmp_path / "selected.jsonl"
    json_lines.replace_lines(path, map(question_line, difficulties(questions, tries)))
    again = read_questions(path)
    assert [(q.id, q.question, q.golden_answers) for q in again] == [
        (q.id, q.question, q.golden_answers) for q in questions
    ]
    assert [q.metadata for q in again] == [
        {"hops": 2, "tries_until_right": number} for number in (1, 3, None)
    ]
