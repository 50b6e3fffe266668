"""Tests of an encoder given by value, and of saved indexes that need it."""

import json
import sys

import pytest

from jaxsearch.commands.main import main
from jaxsearch.search.encoder import Encoder, save_encoder
from jaxsearch.search.encoders import encoder_given, load_encoder
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.indexes import build_index, load_index
from jaxsearch.search.passages import write_passages
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from tests.search.letter_encoder import LetterEncoder, letters_of


def ids(found):
    return [[hit.passage.id for hit in hits] for hits in found]


@pytest.mark.parametrize("given", [LetterEncoder(), letters_of])
def test_an_index_of_a_given_encoder_opens_with_it_again(
    tmp_path, passages, queries, given
):
    encoder = encoder_given(given, passages)
    assert isinstance(encoder, Encoder)
    built = build_index(passages, encoder)
    built.save(tmp_path / "index")
    loaded = load_index(tmp_path / "index", encoder=given)
    assert loaded.encoder == encoder
    assert ids(loaded.search(queries, 5)) == ids(built.search(queries, 5))
    # The nearest neighbour of a passage is the passage itself.
    found = loaded.search([passage.contents for passage in passages[:20]], 1)
    assert ids(found) == [[passage.id] for passage in passages[:20]]


def test_a_folder_names_a_given_encoder_and_never_imports_it(
    tmp_path, passages, monkeypatch
):
    ExactIndex(passages, LetterEncoder()).save(tmp_path / "index")
    record = json.loads((tmp_path / "index" / "encoder" / "encoder.json").read_text())
    assert record["source"] == "tests.search.letter_encoder:LetterEncoder"
    monkeypatch.delitem(sys.modules, "tests.search.letter_encoder")
    with pytest.raises(ValueError, match="letter_encoder:LetterEncoder.*by value") as e:
        load_index(tmp_path / "index")
    assert "\n" not in str(e.value)
    assert "tests.search.letter_encoder" not in sys.modules


def test_another_encoder_than_the_one_of_the_index_is_refused(tmp_path, passages):
    ExactIndex(passages, LetterEncoder()).save(tmp_path / "index")
    for other in (LetterEncoder(letters="abc"), letters_of(passages[:1])):
        with pytest.raises(ValueError, match="built with another encoder") as caught:
            load_index(tmp_path / "index", encoder=other)
        assert "\n" not in str(caught.value)


def test_a_class_is_a_factory_and_not_an_encoder(passages):
    class Fitted(TfidfEncoder):
        dims = 64  # a class with every member of an encoder

        def __new__(cls, passages):
            return TfidfEncoder.fit(passages, dims=64)

    assert isinstance(encoder_given(Fitted, passages), TfidfEncoder)


def test_what_a_factory_returns_is_checked(passages):
    with pytest.raises(ValueError, match="returned int, expected an encoder: an"):
        encoder_given(len, passages)


def test_an_encoder_of_this_package_saves_itself(tmp_path, encoder):
    save_encoder(encoder, tmp_path / "encoder")
    assert load_encoder(tmp_path / "encoder").fingerprint == encoder.fingerprint


@pytest.mark.slow
def test_the_command_builds_and_searches_with_an_encoder_of_ones_own(
    tmp_path, passages, capsys
):
    write_passages(passages, tmp_path / "corpus.jsonl")
    index, name = str(tmp_path / "index"), "tests.search.letter_encoder:letters_of"
    build = ["index", "build", "--corpus", str(tmp_path / "corpus.jsonl")]
    assert main([*build, "--out", index, "--encoder", name, "--json"]) == 0
    for action in (["search", index, passages[3].contents], ["check", index]):
        assert main(["index", *action, "--json", "--encoder", name]) == 0
    assert '"recall": 1.0' in capsys.readouterr().out
    other = ["--encoder", "tests.search.letter_encoder:LETTERS"]
    for words, message in (
        (["search", index, "ka"], "give the encoder by value"),
        (["search", index, "ka", "--encoder", "tfidf"], "expected package.module:NAME"),
        (["check", index, *other], "built with another encoder"),
    ):
        assert main(["index", *words]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error and "\n" not in error
    refused = [*build, "--out", index + "2", *other, "--pooling", "cls"]
    assert main(refused) == 2
    assert "takes no pooling" in capsys.readouterr().err
