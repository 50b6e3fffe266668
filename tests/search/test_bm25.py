"""Tests of BM25: its postings against another implementation, and its answers."""

import numpy as np
import pytest

from jaxsearch.search import bm25_postings
from jaxsearch.search.bm25_postings import Bm25Settings, Postings, write_postings
from jaxsearch.search.lexical_terms import Terms

pytest.importorskip("Stemmer", reason="needs PyStemmer: the bm25 extra")

TEXTS = [
    '"Anna"\nAnna is the smith of Plzeň. She smiths and smithed.',
    '"Bern"\nBern is a city; cities are large.',
    "a rose is a rose is a rose",
    "",
    "The city of Anna's smith.",
]


def postings(folder, texts, settings):
    write_postings(texts, folder, settings)
    return Postings(folder, len(texts))


def all_scores(found: Postings, terms: Terms, query: str) -> np.ndarray:
    scores = np.zeros(found.num_passages, np.float32)
    at, values = found.best(*terms.counted(query), found.num_passages)
    scores[at] = values
    return scores


def test_terms_are_stems_without_case_and_accents():
    terms = Terms()
    assert terms.of("Smiths smithed DVORAK") == terms.of("smith smith Dvořák")
    assert terms.of("Malcolm X, C") != terms.of("Malcolm X")
    assert Terms("none").of("cities") != Terms("none").of("city")
    assert terms.of(" ?! ") == []


def test_a_score_by_hand(tmp_path):
    settings = Bm25Settings(k1=2.0, b=0.5, language="none")
    found = postings(tmp_path, ["x x y", "y", "z z"], settings)
    # x is in one of three passages, twice in one of 3 words; their mean is 2.
    idf = np.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 2 / (2 + 2.0 * (0.5 + 0.5 * 3 / 2))
    np.testing.assert_allclose(
        all_scores(found, Terms("none"), "x"), [expected, 0, 0], rtol=1e-6
    )
    # A word that is asked for twice counts twice.
    np.testing.assert_allclose(
        all_scores(found, Terms("none"), "x x"), [2 * expected, 0, 0], rtol=1e-6
    )


def test_scores_equal_those_of_bm25s(passages, queries, tmp_path, monkeypatch):
    bm25s = pytest.importorskip("bm25s", reason="needs bm25s: the dev extra")
    monkeypatch.setattr(bm25_postings, "_BLOCK_SIZE", 250)
    terms = Terms()
    texts = [passage.contents for passage in passages]
    settings = Bm25Settings(min_common=len(texts))
    found = postings(tmp_path, texts, settings)
    vocabulary = {
        term: i for i, term in enumerate({t for x in texts for t in terms.of(x)})
    }
    other = bm25s.BM25(k1=settings.k1, b=settings.b, method="lucene")
    ids = [[vocabulary[term] for term in terms.of(text)] for text in texts]
    other.index((ids, vocabulary), show_progress=False)
    for query in queries:
        known = [vocabulary[t] for t in terms.of(query) if t in vocabulary]
        expected = other.get_scores_from_ids(known)
        np.testing.assert_allclose(
            all_scores(found, terms, query), expected, rtol=1e-5, atol=1e-5
        )


def test_blocks_change_no_byte(passages, tmp_path, monkeypatch):
    texts = [passage.contents for passage in passages]
    for size in (7, 250, 20_000):
        monkeypatch.setattr(bm25_postings, "_BLOCK_SIZE", size)
        (tmp_path / str(size)).mkdir()
        write_postings(texts, tmp_path / str(size), Bm25Settings())
    names = sorted(path.name for path in (tmp_path / "7").iterdir())
    assert names == ["positions.npy", "starts.npy", "terms.npy", "weights.npy"]
    for name in names:
        one, *others = (
            (tmp_path / s / name).read_bytes() for s in ("7", "250", "20000")
        )
        assert all(other == one for other in others)


def test_common_terms_are_left_out_of_large_corpora_only(tmp_path):
    texts = [f"the city {i}" for i in range(100)]
    for min_common, share in ((1000, 0), (50, 1)):
        folder = tmp_path / str(min_common)
        folder.mkdir()
        found = postings(folder, texts, Bm25Settings(min_common=min_common))
        scores = all_scores(found, Terms(), "the city 7")
        assert (scores > 0).mean() == (1.0 if share == 0 else 0.01)
        assert scores.argmax() == 7


def test_all_that_tie_at_rank_k_are_candidates(tmp_path):
    found = postings(tmp_path, ["x y", "x y", "x z", "w"], Bm25Settings())
    at, scores = found.best(*Terms().counted("x"), 1)
    assert at.tolist() == [0, 1, 2] and len(set(scores.tolist())) == 1


def test_texts_without_a_word_are_refused(tmp_path):
    with pytest.raises(ValueError, match="none of the 2 passages has a word"):
        write_postings(["", "?!"], tmp_path, Bm25Settings())
    with pytest.raises(ValueError, match="none of the 0 passages has a word"):
        write_postings([], tmp_path, Bm25Settings())


@pytest.mark.parametrize("name", ["terms", "starts", "positions", "weights"])
def test_damaged_files_are_refused(tmp_path, name):
    write_postings(TEXTS, tmp_path, Bm25Settings())
    path = tmp_path / f"{name}.npy"
    array, content = np.load(path), path.read_bytes()
    path.write_bytes(content[:-4])
    with pytest.raises(ValueError, match=f"{name}.npy is damaged"):
        Postings(tmp_path, len(TEXTS))
    np.save(path, array.astype(object))
    with pytest.raises(ValueError, match=f"{name}.npy is damaged"):
        Postings(tmp_path, len(TEXTS))
    np.save(path, array.astype(np.float64))
    with pytest.raises(ValueError, match="expected a row of"):
        Postings(tmp_path, len(TEXTS))
    np.save(path, array[:-1])
    with pytest.raises(ValueError, match="do not fit"):
        Postings(tmp_path, len(TEXTS))


def test_positions_of_another_corpus_are_refused(tmp_path):
    write_postings(TEXTS, tmp_path, Bm25Settings())
    with pytest.raises(ValueError, match="passages 1 to 4 of 2"):
        Postings(tmp_path, 2).best(*Terms().counted("city"), 3)


@pytest.mark.parametrize(
    "settings, said",
    [({"k1": -1.0}, "k1"), ({"b": 1.5}, "b must"), ({"max_share": 2.0}, "max_share")],
    ids=["k1", "b", "max_share"],
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Bm25Settings(**settings)


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="no stemmer for the language 'klingon'"):
        Terms("klingon")
