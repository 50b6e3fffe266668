"""Tests of projected TF-IDF vectors: accuracy and reproducibility."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxsearch.search import tfidf_encoder
from jaxsearch.search.encoders import load_encoder
from jaxsearch.search.passages import Passage
from jaxsearch.search.tfidf_encoder import TfidfEncoder


def test_shapes_and_lengths(encoder, passages, queries):
    vectors = encoder.encode_passages(passages)
    assert vectors.shape == (600, 256) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert encoder.encode_queries(queries).shape == (len(queries), 256)
    assert encoder.encode_queries([]).shape == (0, 256)


@pytest.mark.parametrize("query", ["", "  \n", "?!", "xylophone qwertz"])
def test_nothing_known_is_a_zero_vector(encoder, query):
    assert not encoder.encode_queries([query]).any()


def test_words_are_lowercased_unicode_and_may_be_one_letter():
    texts = ["Vitamin C", "vitamin d", "Ελλάδα", "北京 1"]
    encoder = TfidfEncoder.fit(
        [Passage(id=text, contents=text) for text in texts], dims=64
    )
    known = encoder.encode_queries(["c", "D", "ελλάδα", "北京", "1"]).any(axis=1)
    assert known.all()


def test_inner_products_are_those_of_sparse_tfidf(passages, queries):
    from sklearn.feature_extraction.text import TfidfVectorizer

    sparse = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+")
    texts = sparse.fit_transform([passage.contents for passage in passages])
    expected = (sparse.transform(queries) @ texts.T).toarray()
    encoder = TfidfEncoder.fit(passages, dims=4096)
    found = encoder.encode_queries(queries) @ encoder.encode_passages(passages).T
    # Noise of a random projection: a standard deviation of about 1/sqrt(4096).
    assert np.std(found - expected) < 1.2 / 64
    assert abs(np.mean(found - expected)) < 1e-2


def test_repeated_words_count_by_their_logarithm():
    # idf is 1 for both words; "ka" has weight 1 + ln 4 = 2.386, "mo" has 1, so the
    # cosine with "ka" is 2.386 / sqrt(2.386^2 + 1) = 0.922. By plain counts: 0.970.
    passages = [Passage(id="a", contents="ka ka ka ka mo")]
    encoder = TfidfEncoder.fit(passages, dims=16 * 1024)
    [vector] = encoder.encode_passages(passages)
    [query] = encoder.encode_queries(["ka"])
    assert abs(vector @ query - 0.922) < 0.01


def test_same_seed_same_vectors_other_seed_others(encoder, passages, queries):
    again = TfidfEncoder.fit(passages, dims=256, seed=3)
    other = TfidfEncoder.fit(passages, dims=256, seed=4)
    vectors = encoder.encode_queries(queries)
    assert (again.encode_queries(queries) == vectors).all()
    assert again.fingerprint == encoder.fingerprint
    assert (other.encode_queries(queries) != vectors).any()


def test_fingerprint_changes_with_seed_dims_and_corpus(encoder, passages):
    fingerprints = {
        encoder.fingerprint,
        TfidfEncoder.fit(passages, dims=256, seed=4).fingerprint,
        TfidfEncoder.fit(passages, dims=128, seed=3).fingerprint,
        TfidfEncoder.fit(passages[:-1], dims=256, seed=3).fingerprint,
    }
    assert len(fingerprints) == 4


def test_a_text_does_not_depend_on_its_batch(monkeypatch, encoder, passages):
    whole = encoder.encode_passages(passages)
    monkeypatch.setattr(tfidf_encoder, "BATCH_SIZE", 7)
    assert (encoder.encode_passages(passages) == whole).all()
    assert (encoder.encode_passages(passages[41:42]) == whole[41]).all()


def test_loaded_is_the_same_bit_for_bit(tmp_path, encoder, passages, queries):
    encoder.save(tmp_path / "e")
    loaded = load_encoder(tmp_path / "e")
    assert loaded.fingerprint == encoder.fingerprint
    assert (loaded.encode_passages(passages) == encoder.encode_passages(passages)).all()
    assert (loaded.encode_queries(queries) == encoder.encode_queries(queries)).all()
    with pytest.raises(ValueError, match="not empty"):
        encoder.save(tmp_path / "e")


@pytest.mark.parametrize("name", ["words.json", "idf.npy", "buckets.npy", "signs.npy"])
def test_damaged_folder_is_refused(tmp_path, encoder, name):
    encoder.save(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match="does not hold a readable tfidf encoder"):
        load_encoder(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="does not hold a readable tfidf encoder"):
        load_encoder(tmp_path)
    path.write_bytes(whole.replace(b"smith", b"smyth"))
    if name == "words.json":
        with pytest.raises(ValueError, match="was changed after it was saved"):
            load_encoder(tmp_path)


def test_unknown_or_missing_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected an encoder's settings"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text("{")
    with pytest.raises(ValueError, match="expected an encoder's settings"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text(json.dumps({"name": "e5"}))
    with pytest.raises(ValueError, match="names the encoder 'e5'"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("dims", [0, -16, 100])
def test_dims_must_fit_the_projection(passages, dims):
    with pytest.raises(ValueError, match=f"multiple of 16, got {dims}"):
        TfidfEncoder.fit(passages, dims=dims)


def test_a_corpus_without_words_is_refused():
    with pytest.raises(ValueError, match="none of the 1 passages contains a word"):
        TfidfEncoder.fit([Passage(id="a", contents="... !")], dims=64)


def test_importing_search_imports_nothing_heavy():
    modules = [
        "search.passages",
        "search.encoders",
        "search.indexes",
        "search.exact_index",
        "env.sanitize",
        "commands.index",
    ]
    program = "import sys\n" + "".join(f"import jaxsearch.{name}\n" for name in modules)
    program += "print({'sklearn', 'scipy', 'scann', 'jax', 'rich'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
