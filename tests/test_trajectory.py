"""Segments of text, split where the author changes."""

import numpy as np

from jaxsearch.trajectory import segments_of


def test_segments_are_cut_where_the_author_changes():
    segments = segments_of(
        np.arange(8),
        np.array([0, 0, 1, 1, 0, 0, 1, 0], bool),
        2,
        lambda ids: "".join(map(str, ids)),
    )
    assert [(one.text, one.is_policy) for one in segments] == [
        ("23", True),
        ("45", False),
        ("6", True),
        ("7", False),
    ]


def test_a_row_of_a_prompt_alone_has_no_segments():
    assert segments_of(np.arange(3), np.zeros(3, bool), 3, str) == ()
