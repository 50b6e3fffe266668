"""A run whose index is searched with a BERT encoder."""

import dataclasses
import json

import pytest

from jaxsearch.config import RetrievalConfig
from jaxsearch.run import config_values
from jaxsearch.run.config_record import resolved
from jaxsearch.run.inputs import load_inputs
from jaxsearch.run.options import with_index
from jaxsearch.run.overrides import overridden
from jaxsearch.run.retrievers import open_retrievers
from jaxsearch.search import encoder_forward
from jaxsearch.search.bert_encoder import BertEncoder
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from tests.search.bert_folder import write_folder
from tests.search.letter_encoder import LetterEncoder, letters_of
from tests.tiny import tiny_config


@pytest.fixture
def config(tmp_path):
    write_folder(tmp_path / "model", ["ka", "mo"])
    config = tiny_config(tmp_path / "run")
    retrieval = dataclasses.replace(
        config.retrieval, encoder=str(tmp_path / "model"), query_device="accelerator"
    )
    return dataclasses.replace(config, retrieval=retrieval)


@pytest.mark.slow
def test_both_indexes_of_a_run_use_it_and_are_read_again(monkeypatch, config):
    asked = []
    devices = encoder_forward.query_devices
    monkeypatch.setattr(
        "jaxsearch.search.bert_encoder.query_devices",
        lambda device: asked.append(device) or devices(device),
    )
    inputs = load_inputs(config)
    built = open_retrievers(config, inputs)
    read = open_retrievers(config, inputs)
    query = inputs.passages[3].contents
    for ours, again in zip(built, read, strict=True):
        assert isinstance(ours.encoder, BertEncoder)
        assert again.encoder.fingerprint == ours.encoder.fingerprint
        [hits], [expected] = again.search([query], 3), ours.search([query], 3)
        assert [h.passage.id for h in hits] == [h.passage.id for h in expected]
        assert len(hits) == 3
    assert set(asked) == {"accelerator"}


def test_an_index_has_its_own_encoder():
    with pytest.raises(
        ValueError, match="retrieval.index comes with an encoder: give one"
    ):
        RetrievalConfig(index="some", encoder="other/one")


def test_the_host_may_be_out_of_sight(monkeypatch):
    def no_cpu(backend=None):
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return ["gpu 0", "gpu 1"]

    monkeypatch.setattr(encoder_forward.jax, "local_devices", no_cpu)
    with pytest.raises(ValueError, match="add cpu to JAX_PLATFORMS, or choose"):
        encoder_forward.query_devices("host")
    monkeypatch.undo()
    assert len(encoder_forward.query_devices("host")) == 1
    assert (
        encoder_forward.query_devices("accelerator")
        == encoder_forward.jax.local_devices()[:1]
    )


@pytest.mark.parametrize("encoder", [LetterEncoder(), letters_of])
def test_an_encoder_given_by_value(tmp_path, encoder):
    config = tiny_config(tmp_path / "run")
    retrieval = dataclasses.replace(config.retrieval, encoder=encoder)
    config = dataclasses.replace(config, retrieval=retrieval)
    inputs = load_inputs(config)
    built, read = open_retrievers(config, inputs), open_retrievers(config, inputs)
    for ours, again in zip(built, read, strict=True):
        assert isinstance(ours.encoder, LetterEncoder)
        assert again.encoder == ours.encoder
    named = dataclasses.replace(
        config, retrieval=dataclasses.replace(retrieval, encoder="tfidf")
    )
    with pytest.raises(ValueError, match="letter_encoder:LetterEncoder.*by value"):
        open_retrievers(named, inputs)
    folder = str(tmp_path / "run" / "indexes" / "train")
    by_folder = RetrievalConfig(index=folder, encoder=encoder)
    config = dataclasses.replace(config, retrieval=by_folder)
    index, _ = open_retrievers(config, load_inputs(config))
    assert index.encoder == built[0].encoder


def test_another_index_brings_its_encoder_unless_it_needs_the_given_one(tmp_path):
    passages = load_inputs(tiny_config(tmp_path / "run")).passages[:20]
    ExactIndex(passages, LetterEncoder()).save(tmp_path / "letters")
    ExactIndex(passages, TfidfEncoder.fit(passages, dims=64)).save(tmp_path / "tfidf")
    for trained_with, index, expected in (
        (LetterEncoder(), "letters", LetterEncoder()),
        (LetterEncoder(), "tfidf", "tfidf"),
        # A config with an index and the name of an encoder is refused.
        ("owner/bert", "tfidf", "tfidf"),
    ):
        retrieval = RetrievalConfig(corpus="some.jsonl", encoder=trained_with)
        other = with_index(retrieval, str(tmp_path / index))
        assert (other.index, other.corpus) == (str(tmp_path / index), "")
        assert other.encoder == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", "owner/name"),
        ("tests.search.letter_encoder:LETTERS", LetterEncoder()),
        ("tests.search.letter_encoder:letters_of", letters_of),
    ],
)
def test_an_encoder_on_the_command_line(tmp_path, text, expected):
    words = ["--retrieval.encoder", text]
    config = overridden(tiny_config(tmp_path), words, "tiny")
    assert config.retrieval.encoder == expected
    recorded = json.loads(json.dumps(resolved(config.retrieval)))
    assert config_values.restored(recorded, RetrievalConfig) == config.retrieval
