"""A search that cannot work is refused before a run writes anything."""

import dataclasses
import functools
from pathlib import Path

import pytest

from jaxsearch.config import RetrievalConfig
from jaxsearch.env.search import search_only
from jaxsearch.rl.advantages import group_relative
from jaxsearch.rl.credit import requires
from jaxsearch.run.inputs import load_inputs
from jaxsearch.run.retrievers import check_index, open_retrievers
from jaxsearch.run.signatures import check_signatures
from jaxsearch.search.build import build_index_folder
from jaxsearch.search.exact_index import EmptyIndex, ExactIndex
from jaxsearch.search.passages import write_passages
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from jaxsearch.train import train
from tests.search.bert_folder import write_folder
from tests.search.letter_encoder import LetterEncoder, letters_of
from tests.tiny import tiny_config


class NeedsUrl(EmptyIndex):
    """A retriever that is made with an argument."""

    def __init__(self, url):
        self.url = url


def makes_text(*passages):
    return "text"


def of_two(one, two):
    return None


def with_search(config, **fields):
    changed = dataclasses.replace(config.retrieval, **fields)
    return dataclasses.replace(config, retrieval=changed, environment=search_only)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"retriever": NeedsUrl}, "retrieval.retriever is called with .*'url'"),
        ({"retriever": makes_text}, "must return an object with a method search"),
        ({"encoder": of_two}, r"retrieval.encoder is called with \(passages\).*'two'"),
        ({"encoder": LetterEncoder}, "retrieval.encoder is called with"),
        ({"encoder": makes_text}, "returned str, expected an encoder"),
        ({"encoder": "tfdif"}, "unknown encoder 'tfdif': expected tfidf, or a folder"),
    ],
)
def test_a_search_that_does_not_fit_leaves_no_folder(tmp_path, fields, match):
    config = with_search(tiny_config(tmp_path / "run"), **fields)
    with pytest.raises(ValueError, match=match):
        train(config)
    assert not Path(config.out).exists()


def test_damaged_folders_leave_no_folder(tmp_path):
    config = tiny_config(tmp_path / "run")
    bert, index, letters = (tmp_path / name for name in ("bert", "index", "letters"))
    write_folder(bert, ["ka", "mo"])
    (bert / "modules.json").unlink()
    passages = load_inputs(config).passages[:20]
    ExactIndex(passages, TfidfEncoder.fit(passages, dims=64)).save(index)
    (index / "passages.arrayrecord").write_bytes(b"")
    ExactIndex(passages, LetterEncoder()).save(letters)
    for fields, match in (
        ({"encoder": str(bert)}, "has no modules.json"),
        ({"index": str(index)}, "expected passages.arrayrecord to have"),
        ({"index": str(letters)}, "give the encoder by value"),
        ({"encoder": str(letters / "encoder")}, "give the encoder by value"),
    ):
        with pytest.raises(ValueError, match=match):
            train(with_search(config, **fields))
        assert not Path(config.out).exists()


def test_the_checked_encoders_are_those_of_the_indexes(tmp_path):
    made = []

    def letters(passages):
        made.append(letters_of(passages))
        return made[-1]

    config = with_search(tiny_config(tmp_path / "run"), encoder=letters)
    inputs = load_inputs(config)
    encoders = check_index(config, inputs)
    assert not Path(config.out).exists()
    indexes = open_retrievers(config, inputs, encoders)
    for index, encoder in zip(indexes, made, strict=True):
        assert index.encoder is encoder


def test_a_run_searches_an_index_of_words(tmp_path):
    pytest.importorskip("Stemmer", reason="needs PyStemmer: the bm25 extra")
    config = tiny_config(tmp_path / "run")
    passages = load_inputs(config).passages[:20]
    write_passages(passages, tmp_path / "corpus.jsonl")
    build_index_folder(
        corpus=tmp_path / "corpus.jsonl", encoder="bm25", out=tmp_path / "words"
    )
    config = with_search(config, index=str(tmp_path / "words"))
    inputs = load_inputs(config)
    index, _ = open_retrievers(config, inputs, check_index(config, inputs))
    [[hit, *_]] = index.search([passages[3].title], 5)
    assert hit.passage == passages[3]


def test_an_index_that_was_built_needs_no_encoder_folder(tmp_path):
    config = tiny_config(tmp_path / "run")
    inputs = load_inputs(config)
    open_retrievers(config, inputs)
    gone = with_search(config, encoder=str(tmp_path / "gone"))
    check_index(gone, inputs)
    with pytest.raises(ValueError, match="unknown encoder"):
        check_index(dataclasses.replace(gone, out=str(tmp_path / "other")), inputs)


@requires(rollouts=True)
def of_rollouts(rewards, is_kept, rollouts):
    return rewards


@functools.wraps(of_rollouts)
def wrapped(rewards, is_kept, rollouts):
    return of_rollouts(rewards, is_kept, rollouts)


@functools.wraps(of_two)
def of_one(one):
    return of_two(one, one)


@pytest.mark.parametrize("advantage", [of_rollouts, wrapped, group_relative])
@pytest.mark.parametrize("demonstrations", [of_one, functools.partial(of_two, 1)])
def test_functions_that_take_their_arguments_pass(tmp_path, advantage, demonstrations):
    config = tiny_config(tmp_path / "run")
    supervised, rl = config.stages
    stages = (
        dataclasses.replace(supervised, demonstrations=demonstrations),
        dataclasses.replace(rl, advantage=advantage),
    )
    retriever = functools.partial(NeedsUrl, url="u")
    check_signatures(
        dataclasses.replace(
            config, stages=stages, retrieval=RetrievalConfig(retriever=retriever)
        )
    )


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        (
            {"demonstrations": of_two},
            r"stages.0.demonstrations is called with \(seed\).*takes \(one, two\)",
        ),
        ({"advantage": of_one}, "stages.1.advantage is called with .*is_kept"),
        ({"environment": of_two}, "environment is called with .inputs.*'two'"),
        ({"source": of_one}, "data.source is called with .run_folder, seed"),
    ],
)
def test_functions_that_do_not_leave_no_folder(tmp_path, fields, match):
    config = tiny_config(tmp_path / "run")
    supervised, rl = config.stages
    changed = {
        "demonstrations": lambda f: {
            "stages": (dataclasses.replace(supervised, demonstrations=f), rl)
        },
        "advantage": lambda f: {
            "stages": (supervised, dataclasses.replace(rl, advantage=f))
        },
        "environment": lambda f: {"environment": f},
        "source": lambda f: {"data": dataclasses.replace(config.data, source=f)},
    }
    [(name, function)] = fields.items()
    config = dataclasses.replace(config, **changed[name](function))
    with pytest.raises(ValueError, match=match):
        train(config)
    assert not Path(config.out).exists()
