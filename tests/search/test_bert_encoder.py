"""Tests of the BERT encoder: vectors, folders, and indexes built with it."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest

from jaxsearch.commands.index import search_once
from jaxsearch.commands.main import main
from jaxsearch.models.bert_files import read_bert_architecture, read_bert_params
from jaxsearch.search import bert_encoder as bert_encoder_module
from jaxsearch.search import encoder_forward
from jaxsearch.search.bert_encoder import (
    BertEncoder,
    bert_fingerprint,
    bert_network,
)
from jaxsearch.search.bert_encoder_folder import read_bert_encoder
from jaxsearch.search.build import build_index_folder
from jaxsearch.search.encoder_forward import Forward
from jaxsearch.search.encoder_options import EncoderOptions
from jaxsearch.search.encoder_settings import EncoderSettings
from jaxsearch.search.encoders import encoder_named, load_encoder
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.index_check import Check, check_index
from jaxsearch.search.indexes import load_index
from jaxsearch.search.passages import Passage, write_passages
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from tests.search.bert_folder import MAX_LEN, write_folder


@pytest.fixture(scope="module")
def folder(passages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert") / "model"
    words = {word for p in passages[:200] for word in p.contents.lower().split()}
    write_folder(folder, sorted(words))
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return read_bert_encoder(str(folder), EncoderOptions())


@pytest.fixture(scope="module")
def texts(passages):
    """Texts of one word up to more than fit, in random order."""
    rng = np.random.default_rng(0)
    words = " ".join(p.text for p in passages[:50]).split()
    return [" ".join(rng.choice(words, size=n)) for n in rng.integers(1, 60, size=90)]


@pytest.fixture
def small_batches(monkeypatch):
    """Sets batches of 128 tokens over all eight devices."""
    monkeypatch.setattr(encoder_forward, "CPU_TOKENS", 16)


def as_passages(texts):
    return [Passage(id=str(i), contents=text) for i, text in enumerate(texts)]


@pytest.mark.slow
def test_vectors_have_length_one_and_prefixes_count(folder, encoder, texts):
    queries = encoder.encode_queries(texts)
    assert queries.shape == (90, 32) and queries.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1.0, rtol=1e-5)
    assert encoder.encode_queries([]).shape == (0, 32)
    assert encoder.encode_passages([]).shape == (0, 32)
    bare = read_bert_encoder(
        str(folder), EncoderOptions(query_prefix="", passage_prefix="")
    )
    prefixed = bare.encode_queries([f"query: {text}" for text in texts])
    assert (queries == prefixed).all()
    passages = encoder.encode_passages(as_passages(texts))
    prefixed = bare.encode_queries([f"passage: {text}" for text in texts])
    np.testing.assert_allclose(passages, prefixed, atol=1e-6)
    assert np.abs(passages - queries).max() > 0.01


@pytest.mark.slow
def test_options_reach_the_network(folder, encoder, texts):
    vectors = encoder.encode_queries(texts)
    for options in ({"pooling": "cls"}, {"is_normalised": False}):
        other = read_bert_encoder(str(folder), EncoderOptions(**options))
        assert np.abs(other.encode_queries(texts) - vectors).max() > 0.01
    half = read_bert_encoder(str(folder), EncoderOptions(dtype="bfloat16"))
    assert 1e-4 < np.abs(half.encode_queries(texts) - vectors).max() < 0.05


@pytest.mark.slow
def test_a_query_does_not_depend_on_its_batch_bit_for_bit(encoder, texts):
    whole = encoder.encode_queries(texts)
    assert (encoder.encode_queries(texts[::-1])[::-1] == whole).all()
    alone = [encoder.encode_queries([text])[0] for text in texts]
    assert (np.array(alone) == whole).all()


def test_passages_come_back_in_order_whatever_the_chunks(monkeypatch, encoder, texts):
    whole = encoder.encode_passages(as_passages(texts))
    monkeypatch.setattr(bert_encoder_module, "CHUNK_SIZE", 7)
    parts = encoder.encode_passages(as_passages(texts))
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_eight_devices_give_what_one_gives(encoder, texts):
    assert jax.local_device_count() == 8
    assert encoder._for_passages.num_devices == 8
    assert encoder._for_queries.num_devices == 1
    # The same network on one device of the eight.
    one = encoder._forward(jax.local_devices()[3:4])
    assert isinstance(one, Forward) and one.num_devices == 1
    ids = np.tile(np.arange(5, 21, dtype=np.int32), (8, 1)) + np.arange(8)[:, None]
    lengths = np.arange(9, 17, dtype=np.int32)
    spread = encoder._for_passages(ids.astype(np.int32), lengths)
    assert len(spread.sharding.device_set) == 8
    assert spread.sharding.shard_shape(spread.shape) == (1, 32)
    single = one(ids.astype(np.int32), lengths)
    assert single.devices() == {jax.local_devices()[3]}
    np.testing.assert_allclose(np.asarray(spread), np.asarray(single), atol=1e-6)


def test_nothing_known_is_a_zero_vector(encoder):
    assert not encoder.encode_queries(["", "  \n"]).any()
    assert encoder.encode_queries(["", "ka"])[1].any()
    blank = as_passages(["ka mo", " ", "ri"])
    assert encoder.encode_passages(blank).any(axis=1).tolist() == [True, False, True]


def test_long_texts_are_cut_and_counted(folder, texts):
    encoder = read_bert_encoder(str(folder), EncoderOptions())
    assert encoder.settings.max_len == MAX_LEN
    # "passage", ":", [CLS] and [SEP] leave 44 tokens for the text.
    letters = "a " * 44
    found = encoder.encode_passages(
        as_passages([letters, letters + "b c d", letters + "e", "a"])
    )
    assert encoder.describe()["truncated_passages"] == encoder.num_truncated == 2
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    encoder.encode_queries([letters * 2])
    assert encoder.num_truncated == 2


@pytest.mark.slow
def test_nothing_compiles_after_warm_up(caplog, folder, texts, small_batches):
    encoder = read_bert_encoder(str(folder), EncoderOptions())

    def compiled():
        return [r for r in caplog.records if r.getMessage().startswith("Compiling")]

    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        encoder.encode_queries(texts)
        encoder.encode_passages(as_passages(texts))
        before = len(compiled())
        assert before >= 2 * 6  # lengths up to 48 in steps of eight
        for start in range(0, 90, 9):
            encoder.encode_queries(texts[start : start + 9])
        encoder.encode_passages(as_passages(texts[::-1]))
        assert len(compiled()) == before
        # The count can change: a batch of sixteen rows of eight is a new shape.
        encoder.encode_passages(as_passages(["ka"] * 40))
        assert len(compiled()) > before


@pytest.mark.slow
def test_progress_is_reported(folder, texts, small_batches):
    reports = []
    encoder = read_bert_encoder(
        str(folder), EncoderOptions(), report=lambda *progress: reports.append(progress)
    )
    encoder.encode_queries(texts)
    assert not reports
    encoder.encode_passages(as_passages(texts))
    assert reports[-1] == (90, 90) and len(reports) > 1
    assert [total for _, total in reports] == [90] * len(reports)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


def test_saved_and_loaded_again_its_queries_are_the_same(encoder, texts, tmp_path):
    encoder.save(tmp_path / "encoder")
    loaded = load_encoder(tmp_path / "encoder")
    assert isinstance(loaded, BertEncoder)
    assert loaded.settings == encoder.settings
    assert loaded.fingerprint == encoder.fingerprint
    assert (loaded.encode_queries(texts) == encoder.encode_queries(texts)).all()
    with pytest.raises(ValueError, match="is not empty"):
        encoder.save(tmp_path / "encoder")


def test_a_fingerprint_changes_with_all_that_changes_a_vector(
    folder, encoder, tmp_path
):
    again = read_bert_encoder(str(folder), EncoderOptions())
    assert again.fingerprint == encoder.fingerprint
    found = {encoder.fingerprint}
    for options in (
        {"pooling": "cls"},
        {"is_normalised": False},
        {"query_prefix": ""},
        {"passage_prefix": "p"},
        {"dtype": "bfloat16"},
    ):
        other = read_bert_encoder(str(folder), EncoderOptions(**options))
        found.add(other.fingerprint)
    vocabulary = (folder / "vocab.txt").read_text().split()
    write_folder(tmp_path / "weights", vocabulary[5:], seed=1)
    found.add(
        read_bert_encoder(str(tmp_path / "weights"), EncoderOptions()).fingerprint
    )
    write_folder(tmp_path / "words", [*vocabulary[5:-2], *vocabulary[:-3:-1]])
    found.add(read_bert_encoder(str(tmp_path / "words"), EncoderOptions()).fingerprint)
    assert len(found) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: (f / "tokenizer.json").unlink(),
            "does not hold a readable bert encoder",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"{}"), "is truncated"),
        (lambda f: edit(f, query_prefix="q"), "was changed after it was saved"),
        (lambda f: edit(f, pooling="max"), "pooling 'max' is not supported"),
        (lambda f: edit(f, dtype="y" * 10_000), "dtype 'yyy.* is not supported"),
        (lambda f: edit(f, name="y" * 10_000), "names the encoder 'yyy"),
        (lambda f: deepen(f), "has 90 layers, but there is no tensor encoder.layer.89"),
        (lambda f: edit(f, max_len=None), "max_len must be a 64-bit integer, got None"),
        (lambda f: edit(f, query_prefix=3), "query_prefix must be a text, got 3"),
        (lambda f: retokenize(f, '{"model": 3}'), "cannot read a tokenizer from"),
        (
            lambda f: edit(f, name="gpt"),
            "names the encoder 'gpt', expected 'tfidf' or 'bert'",
        ),
    ],
)
def test_a_damaged_encoder_is_refused_in_one_line(encoder, tmp_path, change, message):
    encoder.save(tmp_path / "encoder")
    change(tmp_path / "encoder")
    with pytest.raises(ValueError, match=message) as caught:
        load_encoder(tmp_path / "encoder")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def retokenize(folder, text):
    """Replaces the tokenizer by a text that has the fingerprint of the folder."""
    (folder / "tokenizer.json").write_text(text)
    record = json.loads((folder / "encoder.json").read_text())
    fields = dataclasses.fields(EncoderSettings)
    settings = EncoderSettings(**{field.name: record[field.name] for field in fields})
    shapes = bert_network(read_bert_architecture(folder), settings).shapes
    params = read_bert_params(folder, shapes)
    edit(folder, fingerprint=bert_fingerprint(params, text, settings))


def deepen(folder):
    """A network as deep as that takes seconds to make."""
    path = folder / "config.json"
    fields = json.loads(path.read_text()) | {"num_hidden_layers": 90}
    path.write_text(json.dumps(fields))


def edit(folder, **fields):
    path = folder / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.slow
def test_an_index_folder_holds_its_encoder(folder, encoder, passages, tmp_path):
    write_passages(passages, tmp_path / "corpus.jsonl")
    summary = build_index_folder(
        corpus=tmp_path / "corpus.jsonl", encoder=str(folder), out=tmp_path / "index"
    )
    assert (summary["encoder"], summary["dims"]) == ("bert", 32)
    assert summary["encoder_fingerprint"] == encoder.fingerprint
    assert json.loads(json.dumps(summary)) == summary
    described = summary["encoder_settings"]
    assert described["query_prefix"] == "query: " and described["max_len"] == MAX_LEN
    assert 0 < described["truncated_passages"] < 600
    exact = ExactIndex(passages, encoder)
    queries = [passage.contents for passage in passages[::100]]
    index = load_index(tmp_path / "index")
    for found, expected in zip(
        index.search(queries, 3), exact.search(queries, 3), strict=True
    ):
        assert [hit.passage.id for hit in found] == [h.passage.id for h in expected]
    assert index.search([" "], 3) == [[]]
    found = search_once(tmp_path / "index", queries[0], 2)
    assert len(found["hits"]) == 2
    assert check_index(tmp_path / "index", Check(num_queries=20))["recall"] > 0.99
    other = TfidfEncoder.fit(passages, dims=32)
    with pytest.raises(ValueError, match="built with another encoder"):
        load_index(tmp_path / "index", encoder=other)
    # The saved encoder can be used for another corpus.
    again = build_index_folder(
        corpus=tmp_path / "corpus.jsonl",
        encoder=str(tmp_path / "index" / "encoder"),
        out=tmp_path / "again",
    )
    assert again["encoder_fingerprint"] == encoder.fingerprint


def test_options_without_effect_are_refused(folder, encoder, passages, tmp_path):
    encoder.save(tmp_path / "saved")
    saved = str(tmp_path / "saved")
    options = EncoderOptions(pooling="cls", query_prefix="q")
    for name, reason in (("tfidf", "it has none"), (saved, "saved with its own")):
        with pytest.raises(ValueError, match=f"no pooling, query_prefix: .*{reason}"):
            encoder_named(name, passages, options=options)
    for name in (saved, str(folder)):
        with pytest.raises(ValueError, match="takes no dims"):
            encoder_named(name, passages, dims=64)


@pytest.fixture
def broken(folder, tmp_path):
    """A copy of the model to damage, and the command that builds an index with it."""
    words = (folder / "vocab.txt").read_text().split()[5:]
    write_folder(tmp_path / "model", words)
    write_passages([Passage(id="a", contents="ka mo")], tmp_path / "corpus.jsonl")
    build = ["index", "build", "--corpus", str(tmp_path / "corpus.jsonl")]
    build += ["--encoder", str(tmp_path / "model"), "--out", str(tmp_path / "index")]
    return tmp_path / "model", build


def drop(folder, name):
    from safetensors.numpy import load_file, save_file

    file = folder / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if k != name}, file)


def widen(folder):
    """Token types that would take 256 GB of memory."""
    path = folder / "config.json"
    fields = json.loads(path.read_text()) | {"type_vocab_size": 2_000_000_000}
    path.write_text(json.dumps(fields))


def lengthen(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes() + b"one-more\n")


BIAS = "encoder.layer.0.output.dense.bias"


@pytest.mark.parametrize(
    ("break_it", "words", "message"),
    [
        (
            lambda f: cut(f / "model.safetensors"),
            [],
            "is truncated: tensor",
        ),
        (lambda f: drop(f, BIAS), [], f"no tensor {BIAS} in "),
        (lambda f: resize(f), [], "config.json asks for (32, 49)"),
        (lambda f: widen(f), [], "config.json asks for (2000000000, 32)"),
        (lambda f: lengthen(f, "vocab.txt"), [], "ids, the embedding"),
        (lambda f: (f / "vocab.txt").unlink(), [], "neither tokenizer.json nor vocab"),
        (lambda f: (f / "modules.json").unlink(), [], "give --pooling mean or"),
        (lambda f: None, ["--pooling", "max"], "'max' is not supported; expected one"),
        (lambda f: None, ["--dtype", "int8"], "'int8' is not supported; expected one"),
        (lambda f: None, ["--dims", "64"], "takes no dims"),
        (lambda f: (f / "config.json").unlink(), [], "has no config.json"),
        (lambda f: None, ["--encoder", "./none"], "encoder folder ./none does not"),
        (lambda f: None, ["--encoder", "/no/such"], "unknown encoder '/no/such'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(capsys, broken, break_it, words, message):
    folder, build = broken
    break_it(folder)
    assert main([*build, *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error and "Traceback" not in error


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def resize(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"intermediate_size": 49}))


def test_options_of_the_command_reach_the_encoder(capsys, broken):
    folder, build = broken
    (folder / "modules.json").unlink()
    words = ["--pooling", "cls", "--no-normalize", "--query-prefix", "q: "]
    words += ["--passage-prefix", "", "--dtype", "bfloat16", "--json"]
    assert main([*build, *words]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    encoder = load_index(summary["out"]).encoder
    assert encoder.settings.pooling == "cls" and not encoder.settings.is_normalised
    assert encoder.settings.query_prefix == "q: "
    assert encoder.settings.passage_prefix == ""
    assert encoder.settings.dtype == "bfloat16"
