"""Tests of reciprocal rank fusion."""

import numpy as np
import pytest

from jaxsearch.search.fusion import Fusion, fused


def test_scores_by_hand():
    dense, lexical = np.array([7, 3, 5]), np.array([3, 9])
    positions, scores = fused([dense, lexical], (1.0, 2.0), 10.0)
    assert positions.tolist() == [3, 5, 7, 9]
    expected = [1 / 12 + 2 / 11, 1 / 13, 1 / 11, 2 / 12]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_a_ranking_of_weight_zero_or_without_passages_adds_nothing():
    dense, empty = np.array([7, 3]), np.array([], int)
    for other, weight in ((np.array([9]), 0.0), (empty, 1.0)):
        positions, _ = fused([dense, other], (1.0, weight), 10.0)
        assert positions.tolist() == [3, 7]
    assert fused([empty, empty], (1.0, 1.0), 10.0)[0].tolist() == []


@pytest.mark.parametrize(
    "given, said",
    [
        ({"constant": -1.0}, "constant"),
        ({"depth": 0}, "depth"),
        ({"dense_weight": 0.0, "lexical_weight": 0.0}, "weights"),
        ({"dense_weight": float("nan")}, "weights"),
    ],
    ids=["constant", "depth", "no_weight", "nan"],
)
def test_bad_settings_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Fusion(**given)
