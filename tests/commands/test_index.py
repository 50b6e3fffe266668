"""Tests of `jaxsearch index` through its functions."""

import json

import pytest

from jaxsearch.commands.index import search_once
from jaxsearch.commands.index_check import _questions
from jaxsearch.commands.main import main
from jaxsearch.search.build import build_index_folder
from jaxsearch.search.build_settings import BuildSettings
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.index_check import Check, check_index
from jaxsearch.search.index_queries import sample_queries
from jaxsearch.search.indexes import build_index, load_index
from jaxsearch.search.passages import Passage, write_passages


@pytest.fixture(scope="module")
def built(passages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    write_passages(passages, folder / "corpus.jsonl.gz")
    summary = build_index_folder(
        corpus=folder / "corpus.jsonl.gz",
        encoder="tfidf",
        out=folder / "index",
        settings=BuildSettings(dims=256, seed=3),
    )
    return folder, summary


def test_build_says_what_it_built(built, encoder):
    folder, summary = built
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["num_passages"], summary["dims"]) == (600, 256)
    assert summary["encoder_fingerprint"] == encoder.fingerprint
    assert summary["kind"] == load_index(folder / "index").kind
    assert summary["encoder_settings"]["num_words"] > 600
    assert summary["bytes"] > 600 * 256 * 2
    assert summary["seconds"] > 0.0


def test_search_once(built, passages):
    folder, _ = built
    found = search_once(folder / "index", passages[4].title, 3)
    assert found["query"] == passages[4].title
    assert len(found["hits"]) == 3
    assert found["hits"][0]["id"] == "p4"
    assert found["hits"][0]["text"] == passages[4].text
    assert search_once(folder / "index", " ")["hits"] == []


def test_hits_are_printed_as_text(built, passages, capsys, monkeypatch):
    folder = str(built[0] / "index")
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["index", "search", folder, passages[4].title, "-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"1. {passages[4].title}  (id p4, ")
    [second] = [i for i, line in enumerate(lines) if line.startswith("2. ")]
    text = lines[1:second]
    assert " ".join(line.strip() for line in text) == passages[4].text
    assert all(line.startswith("   ") and len(line) <= 60 for line in text)


def test_no_hits_are_said_and_json_has_them_as_data(built, passages, capsys):
    folder = str(built[0] / "index")
    assert main(["index", "search", folder, " "]) == 0
    assert capsys.readouterr().out == "nothing found for ' '\n"
    assert (
        main(["index", "search", folder, passages[9].title, "-k", "1", "--json"]) == 0
    )
    [hit] = json.loads(capsys.readouterr().out)["hits"]
    assert (hit["id"], hit["text"]) == ("p9", passages[9].text)
    assert main(["index", "search", folder, passages[9].title, "--verify"]) == 0


def test_check_of_brute_force_is_perfect(built):
    folder, _ = built
    report = check_index(folder / "index", Check(num_queries=40))
    assert json.loads(json.dumps(report)) == report
    assert report["num_queries"] == 40
    assert report["recall"] == report["recall_titles"] == 1.0
    one, many = (report["ms"][size]["total"] for size in ("1", "256"))
    assert 0.0 < one["median"] <= one["p95"] and one["median"] < many["median"]
    assert report["peak_anonymous_bytes"] is None or report["peak_anonymous_bytes"] > 0


def test_titles_of_questions_that_are_no_texts_are_left_out(tmp_path):
    path = tmp_path / "questions.jsonl"
    with path.open("w") as file:
        for titles in (None, "Ann", [5, "Ann"], {"Ann": 1}):
            line = {"id": str(titles), "question": "Who?", "golden_answers": ["Ann"]}
            metadata = {"supporting_titles": titles}
            file.write(json.dumps(line | {"metadata": metadata}) + "\n")
    found = [one.supporting_titles for one in _questions(str(path))]
    assert found == [(), (), ("Ann",), ()]


def test_check_sees_a_poor_index(built, passages, encoder, tmp_path):
    pytest.importorskip("scann", reason="ScaNN has wheels for Linux only")
    from jaxsearch.search.scann_scorer import TreeAh

    poor = TreeAh(num_leaves=24, leaves_to_search=1)
    build_index(passages, encoder, scorer=poor).save(tmp_path / "poor")
    assert check_index(tmp_path / "poor", Check(num_queries=40))["recall"] < 0.7


def test_check_of_an_exact_index(passages, encoder, tmp_path):
    ExactIndex(passages, encoder).save(tmp_path / "exact")
    report = check_index(tmp_path / "exact", Check(num_queries=10))
    assert (report["kind"], report["recall"]) == ("exact", 1.0)


def test_a_saved_encoder_is_taken_as_it_is(built, tmp_path, passages):
    folder, summary = built
    write_passages(passages[:50], tmp_path / "few.jsonl")
    other = build_index_folder(
        corpus=tmp_path / "few.jsonl",
        encoder=str(folder / "index" / "encoder"),
        out=tmp_path / "index",
    )
    assert other["encoder_fingerprint"] == summary["encoder_fingerprint"]
    assert other["corpus_fingerprint"] != summary["corpus_fingerprint"]


def test_bad_input(built, tmp_path):
    folder, _ = built
    corpus = folder / "corpus.jsonl.gz"
    with pytest.raises(ValueError, match="unknown encoder 'tfid': expected tfidf, or"):
        build_index_folder(corpus=corpus, encoder="tfid", out=tmp_path / "i")
    with pytest.raises(ValueError, match="is not an empty folder"):
        build_index_folder(
            corpus=tmp_path / "none.jsonl", encoder="tfidf", out=folder / "index"
        )
    with pytest.raises(ValueError, match="none.jsonl: cannot be read"):
        build_index_folder(
            corpus=tmp_path / "none.jsonl", encoder="tfidf", out=tmp_path / "i"
        )
    with pytest.raises(ValueError, match="num_queries must be >= 2, got 1"):
        check_index(folder / "index", Check(num_queries=1))
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"hits per query, must be >= 1, got {k}"):
            Check(k=k)


def test_queries_are_titles_and_sentences_of_the_corpus(passages):
    queries = sample_queries(passages, 21, seed=1)
    assert [len(texts) for texts in queries.values()] == [10, 10]
    titles = {passage.title for passage in passages}
    assert set(queries["titles"]) <= titles
    texts = [passage.text for passage in passages]
    assert all(any(s in text for text in texts) for s in queries["sentences"])
    assert queries == sample_queries(passages, 21, seed=1)
    assert queries != sample_queries(passages, 21, seed=2)
    with pytest.raises(ValueError, match="got 100 and 0 of 100 drawn"):
        sample_queries([Passage(id="a", contents="ab")], 2, seed=0)
