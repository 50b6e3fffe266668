"""Tests of exact search, the oracle of other tests, against a plain loop."""

import numpy as np
import pytest

from jaxsearch.search.exact_index import EmptyIndex, ExactIndex
from jaxsearch.search.indexes import load_index
from jaxsearch.search.passages import Passage
from jaxsearch.search.tfidf_encoder import TfidfEncoder


@pytest.fixture(scope="module")
def index(passages, encoder):
    return ExactIndex(passages, encoder)


def test_equals_a_plain_sort(index, encoder, passages, queries):
    vectors = encoder.encode_passages(passages).astype(np.float64)
    for query, hits in zip(queries, index.search(queries, 4), strict=True):
        scores = vectors @ encoder.encode_queries([query])[0].astype(np.float64)
        expected = sorted(range(600), key=lambda i: (-round(scores[i], 6), i))[:4]
        assert [hit.passage.id for hit in hits] == [f"p{i}" for i in expected]
        np.testing.assert_allclose(
            [hit.score for hit in hits], scores[expected], atol=2e-6
        )


def test_titles_find_their_passages(index, passages):
    found = index.search([passage.title for passage in passages], 5)
    share = np.mean(
        [
            passage.title in {hit.passage.title for hit in hits}
            for passage, hits in zip(passages, found, strict=True)
        ]
    )
    assert share > 0.97


def test_ties_go_to_the_lower_position():
    passages = [Passage(id=i, contents="same words here") for i in "dcba"]
    passages.insert(2, Passage(id="x", contents="others words"))
    index = ExactIndex(passages, TfidfEncoder.fit(passages, dims=64))
    [hits] = index.search(["same here"], 3)
    assert [hit.passage.id for hit in hits] == ["d", "c", "b"]


def test_k_above_the_number_of_passages_returns_them_all(index, queries):
    [hits] = index.search(queries[:1], 10_000)
    assert len({hit.passage.id for hit in hits}) == 600
    assert [hit.score for hit in hits] == sorted(
        (hit.score for hit in hits), reverse=True
    )


def test_blank_unknown_and_no_queries(index):
    assert index.search(["", " \n", "xylophone"], 3) == [[], [], []]
    assert index.search([], 3) == []
    with pytest.raises(ValueError, match="must be >= 1, got 0"):
        index.search(["a"], 0)


def test_save_and_load(tmp_path, index, queries):
    index.save(tmp_path / "i")
    loaded = load_index(tmp_path / "i")
    assert loaded.kind == "exact"
    assert loaded.search(queries, 5) == index.search(queries, 5)


def test_empty_index_never_finds():
    assert EmptyIndex().search(["a", ""], 5) == [[], []]
    with pytest.raises(ValueError, match="must be >= 1"):
        EmptyIndex().search(["a"], 0)


def test_no_passages_and_bad_vectors_are_refused(encoder, passages, monkeypatch):
    with pytest.raises(ValueError, match="at least one passage"):
        ExactIndex([], encoder)

    class Broken(TfidfEncoder):
        def encode_passages(self, passages):
            vectors = super().encode_passages(passages)
            vectors[3, 5] = np.nan
            return vectors

    with pytest.raises(ValueError, match="NaN or infinity for passage 'p3'"):
        ExactIndex(passages, Broken.fit(passages, dims=64))
