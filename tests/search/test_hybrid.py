"""Tests of indexes of words, and of words with vectors, in memory and from a folder."""

import dataclasses
import json

import numpy as np
import pytest

from jaxsearch.search.bm25_index import build_bm25
from jaxsearch.search.bm25_postings import Bm25Settings
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.fusion import Fusion, fused
from jaxsearch.search.hybrid_index import hybrid_json
from jaxsearch.search.index_folder import write_index
from jaxsearch.search.indexes import load_index
from jaxsearch.search.passages import corpus_fingerprint

pytest.importorskip("Stemmer", reason="needs PyStemmer: the bm25 extra")

SETTINGS = Bm25Settings()
FUSION = Fusion(constant=5.0, depth=30, lexical_weight=2.0)


@pytest.fixture(scope="module")
def folders(passages, encoder, tmp_path_factory):
    """Index folders of kind bm25, hybrid and exact, over the same passages."""
    parent = tmp_path_factory.mktemp("kinds")
    dense = ExactIndex(passages, encoder)
    bm25 = {"name": "bm25", **SETTINGS.to_json()}

    def write_bm25(folder):
        assert build_bm25(passages, folder, SETTINGS) == bm25

    common = {"passages": passages, "corpus_fingerprint": corpus_fingerprint(passages)}
    write_index(
        parent / "bm25",
        kind="bm25",
        encoder=None,
        scorer=bm25,
        write_more=write_bm25,
        **common,
    )
    write_index(
        parent / "hybrid",
        kind="hybrid",
        encoder=encoder,
        scorer=hybrid_json("exact", dense.scorer_json(), bm25, FUSION),
        vectors=dense.vectors,
        write_more=write_bm25,
        **common,
    )
    dense.save(parent / "exact")
    return parent


@pytest.fixture(scope="module")
def indexes(folders):
    return {name: load_index(folders / name) for name in ("bm25", "hybrid", "exact")}


def found(hits):
    return [(hit.passage.id, hit.score) for hit in hits]


@pytest.mark.parametrize("kind", ["bm25", "hybrid"])
def test_no_answer_depends_on_its_batch(indexes, queries, kind):
    index = indexes[kind]
    together = index.search(queries, 7)
    alone = [index.search([query], 7)[0] for query in queries]
    assert [found(hits) for hits in together] == [found(hits) for hits in alone]
    assert found(index.search(queries, 3)[5]) == found(together[5][:3])


@pytest.mark.parametrize("kind", ["bm25", "hybrid"])
def test_titles_find_their_passages(indexes, passages, kind):
    hits = indexes[kind].search([p.title for p in passages[:100]], 1)
    assert (
        np.mean([h[0].passage.id == p.id for h, p in zip(hits, passages, strict=False)])
        > 0.98
    )


@pytest.mark.parametrize("kind", ["bm25", "hybrid"])
def test_blank_and_unknown_queries_and_a_large_k(indexes, passages, kind):
    index = indexes[kind]
    assert index.search([" ", "", "?!", "zzzzzz"], 5) == [[], [], [], []]
    assert index.search([], 5) == []
    [hits] = index.search(["is the smith of"], 10_000)
    ids = [hit.passage.id for hit in hits]
    assert len(ids) == len(set(ids)) <= len(passages)
    with pytest.raises(ValueError, match="k, the number of hits"):
        index.search(["x"], 0)


@pytest.mark.slow
def test_ten_thousand_queries_at_once(indexes, queries):
    many = (queries * 100)[:10_000]
    hits = indexes["bm25"].search(many, 1)
    assert len(hits) == 10_000
    assert found(hits[-1]) == found(hits[len(many) % len(queries) - 1])


def test_a_hybrid_is_the_fusion_of_its_parts(indexes, queries):
    hybrid = indexes["hybrid"]
    for query in queries[::10]:
        rankings = [
            [int(hit.passage.id[1:]) for hit in indexes[kind].search([query], 30)[0]]
            for kind in ("exact", "bm25")
        ]
        positions, scores = fused([np.array(r, int) for r in rankings], (1.0, 2.0), 5.0)
        order = np.lexsort((positions, -np.round(scores, 6)))[:5]
        [hits] = hybrid.search([query], 5)
        assert [hit.passage.id for hit in hits] == [f"p{positions[i]}" for i in order]
        np.testing.assert_allclose([h.score for h in hits], scores[order], atol=1e-6)


def test_one_weight_of_zero_leaves_the_other_ranking(indexes, queries):
    for kind, weights in (
        ("bm25", {"dense_weight": 0.0}),
        ("exact", {"lexical_weight": 0.0}),
    ):
        only = indexes["hybrid"].with_fusion(**weights)
        hits, expected = (i.search(queries, 5) for i in (only, indexes[kind]))
        assert [[h.passage.id for h in hs] for hs in hits] == [
            [h.passage.id for h in hs] for hs in expected
        ]


def test_equal_passages_are_found_in_the_order_of_the_corpus(passages, tmp_path):
    same = [dataclasses.replace(passages[0], id=f"s{i}") for i in range(40)]
    write_index(
        tmp_path / "same",
        kind="bm25",
        passages=same,
        corpus_fingerprint=corpus_fingerprint(same),
        encoder=None,
        scorer={"name": "bm25", **SETTINGS.to_json()},
        write_more=lambda folder: build_bm25(same, folder, SETTINGS),
    )
    [hits] = load_index(tmp_path / "same").search([passages[0].title], 5)
    assert [hit.passage.id for hit in hits] == ["s0", "s1", "s2", "s3", "s4"]


@pytest.mark.parametrize(
    "kind, change, said",
    [
        ("bm25", {"k1": "many"}, "expected BM25's k1"),
        ("bm25", {"extra": 1}, "expected BM25's settings"),
        ("bm25", {"b": 7.0}, "b must be from 0 to 1"),
        ("hybrid", {"dense": None}, "dense and lexical settings"),
        ("hybrid", {"fusion": {"constant": 1.0}}, "settings of a hybrid"),
    ],
    ids=["type", "unknown", "range", "dense", "fusion"],
)
def test_damaged_settings_are_refused(folders, tmp_path, kind, change, said):
    import shutil

    folder = tmp_path / "index"
    shutil.copytree(folders / kind, folder)
    manifest = json.loads((folder / "index.json").read_text())
    manifest["scorer"] |= change
    (folder / "index.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=said):
        load_index(folder)
