"""Tests of what an index finds for questions."""

import pytest

from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from jaxsearch.search.question_recall import SearchQuestion, question_recall


class Listed:
    """Finds the same passages for every query."""

    def __init__(self, contents):
        self.hits = [
            Hit(passage=Passage(id=str(i), contents=text), score=1.0 - i / 100)
            for i, text in enumerate(contents)
        ]

    def search(self, queries, k):
        return [self.hits[:k] for _ in queries]


CONTENTS = ['"A"\nfirst', '"B"\nHere is Plzeň.', '"A"\nmore', '""C" of X"\n12 Plzens']


def asked(titles=(), answers=()):
    return SearchQuestion(
        question="?", supporting_titles=titles, golden_answers=answers
    )


def test_titles_and_answers_by_hand():
    questions = [
        asked(("A", "B")),
        asked(('"C" of X', "Z")),
        asked((), ("plzen",)),
        asked((), ("PLZEN!", "no")),
        asked((), ("Plzens", "nowhere")),
        asked((), ("??",)),
    ]
    found = question_recall(Listed(CONTENTS), questions)
    assert (found["num_questions"], found["num_with_titles"]) == (6, 2)
    assert found["num_with_answers"] == 4
    recall = {"1": 0.25, "3": 0.5, "5": 0.75, "10": 0.75, "20": 0.75}
    assert found["title_recall"] == recall
    every = {"1": 0.0, "3": 0.5, "5": 0.5, "10": 0.5, "20": 0.5}
    assert found["all_titles"] == every
    # "Plzens" is another word, found at rank 4; "??" has no word.
    answers = {"1": 0.0, "3": 0.5, "5": 0.75, "10": 0.75, "20": 0.75}
    assert found["answer_in_passage"] == answers


def test_measures_that_apply_to_no_question_are_left_out():
    found = question_recall(Listed(CONTENTS), [asked(("A",))])
    assert "answer_in_passage" not in found
    assert found["title_recall"]["1"] == 1.0
    assert question_recall(Listed([]), [asked(("A",))])["title_recall"]["20"] == 0.0
    with pytest.raises(ValueError, match="none of 1 questions"):
        question_recall(Listed(CONTENTS), [asked()])
