"""Tests of scoring candidates from stored vectors."""

import numpy as np
import pytest

from jaxsearch.search.nearest import best, ranked, row_products
from jaxsearch.search.vector_shards import VectorShards


@pytest.mark.parametrize("dims", [7, 256, 384, 768])
def test_a_product_does_not_depend_on_the_other_rows(dims):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, dims), np.float32)
    vector = rng.standard_normal(dims, np.float32)
    whole = row_products(rows, vector)
    np.testing.assert_allclose(whole, rows @ vector, rtol=1e-4, atol=1e-4)
    for num in range(1, 40):
        chosen = rng.choice(300, num, replace=False)
        assert (row_products(rows[chosen], vector) == whole[chosen]).all()


def test_the_best_are_in_order_and_ties_go_to_the_lower_position():
    positions = np.array([9, 4, 7, 1])
    found = best(positions, np.array([0.5, 0.7, 0.5 + 1e-8, 0.1]), 3)
    assert found.positions.tolist() == [4, 7, 9]
    assert found.scores.tolist() == [0.7, 0.5, 0.5]
    assert best(positions, np.arange(4.0), 9).positions.tolist() == [1, 7, 4, 9]


def test_only_candidates_are_ranked_and_a_zero_vector_finds_nothing():
    shards = VectorShards([np.eye(5, dtype=np.float16)])
    queries = np.array([[1, 2, 3, 4, 5], [0] * 5, [5, 4, 3, 2, 1]], np.float32)
    seen = []

    def candidates(vectors):
        seen.append(len(vectors))
        return [np.array([3, 0]) for _ in vectors]

    found = ranked(candidates, queries, shards, 1)
    assert [one.positions.tolist() for one in found] == [[3], [], [0]]
    assert [one.scores.tolist() for one in found] == [[4.0], [], [5.0]]
    assert seen == [2]
