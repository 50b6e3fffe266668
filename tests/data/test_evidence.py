"""The sentence that a demonstration quotes."""

import pytest

from jaxsearch.data.evidence import quoted
from jaxsearch.search.passages import Passage

PASSAGES = [
    Passage(id="1", contents='"Lit (band)"\nLit is a band. It formed in Fullerton.'),
    Passage(
        id="2",
        contents='"Fullerton"\nFullerton is a city. The band Lit, which formed there, '
        "recorded a song in 1995! It is old.",
    ),
]


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        # Of two sentences with the answer, the one that shares more words.
        ("Where was the band formed?", "fullerton", "It formed in Fullerton."),
        ("Which city is it?", "Fullerton", "Fullerton is a city."),
        ("When?", "1995", "The band Lit, which formed there, recorded a song in 1995!"),
        # Only the title has it; the words of the answer are consecutive.
        ("Who?", "Lit band", "Lit (band): Lit is a band."),
        ("Who?", "the Lit", ""),
    ],
)
def test_the_sentence_most_like_the_question(question, answer, expected):
    assert quoted(question, answer, PASSAGES, num_words=80) == expected


@pytest.mark.parametrize(
    ("max_words", "expected"),
    [
        (5, "recorded a song in 1995!"),
        (1, "1995!"),
        (8, "which formed there, recorded a song in 1995!"),
    ],
)
def test_a_long_sentence_is_cut_around_the_answer(max_words, expected):
    found = quoted("When?", "1995", PASSAGES, num_words=80, max_words=max_words)
    assert found == expected


def test_a_long_answer_stays_whole():
    found = quoted("?", "formed in Fullerton", PASSAGES, num_words=80, max_words=2)
    assert found == "formed in Fullerton."


def test_only_what_is_read_is_quoted():
    # Two words of the first title, eight of its text, one of the second title.
    assert quoted("?", "city", PASSAGES, num_words=15) == "Fullerton is a city."
    assert quoted("?", "city", PASSAGES, num_words=14) == ""


def test_an_answer_that_looks_like_the_end_of_a_sentence():
    passage = Passage(id="1", contents='"X"\nHe won the Alfred G. Vanderbilt in May.')
    found = quoted("?", "G. Vanderbilt", [passage], num_words=80, max_words=4)
    assert found == "the Alfred G. Vanderbilt"
