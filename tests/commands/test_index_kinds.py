"""`jaxsearch index` with words, hybrids, rerankers, questions and tuning."""

import json

import pytest

from jaxsearch.commands.main import main
from jaxsearch.search import index_latency
from jaxsearch.search.indexes import build_index, load_index
from jaxsearch.search.passages import write_passages
from jaxsearch.search.scann_scorer import TreeAh
from tests.search.pair_folder import write_pair_folder

pytest.importorskip("Stemmer", reason="needs PyStemmer: the bm25 extra")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Times batches of 1 and 4 queries, which takes less of the tests' time."""
    monkeypatch.setattr(index_latency, "BATCHES", (1, 4))
    monkeypatch.setattr(index_latency, "_MAX_RUNS", 10)


@pytest.fixture(scope="module")
def folder(passages, tmp_path_factory):
    """Two corpora, questions about titles of both, and a hybrid of both."""
    folder = tmp_path_factory.mktemp("kinds")
    write_passages(passages[:400], folder / "first.jsonl")
    write_passages(passages[400:], folder / "second.jsonl")
    with (folder / "questions.jsonl").open("w") as file:
        for number in (3, 399, 400, 577):
            passage = passages[number]
            line = {
                "id": passage.id,
                "question": f"Who is {passage.title}?",
                "golden_answers": [passage.text.split(".")[0].rpartition(" ")[2]],
                "metadata": {"supporting_titles": [passage.title]},
            }
            file.write(json.dumps(line) + "\n")
    corpora = [str(folder / name) for name in ("first.jsonl", "second.jsonl")]
    words = ["index", "build", "--corpus", *corpora, "--dims", "256", "--hybrid"]
    words += ["--hybrid-constant", "5", "--hybrid-weights", "1,2", "--k1", "2"]
    assert main([*words, "--out", str(folder / "hybrid")]) == 0
    return folder


def ran(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys, *words):
    assert main([*map(str, words)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_an_index_of_words(folder, passages, tmp_path, capsys):
    out = tmp_path / "words"
    corpus = folder / "first.jsonl"
    built = ran(
        capsys, "index", "build", "--corpus", corpus, "--encoder", "bm25", "--out", out
    )
    assert (built["kind"], built["dims"], built["num_passages"]) == ("bm25", 0, 400)
    assert built["scorer"]["language"] == "english"
    found = ran(capsys, "index", "search", out, passages[7].title, "-k", 3)
    assert found["hits"][0]["id"] == "p7" and "corpus" not in found["hits"][0]
    report = ran(capsys, "index", "check", out)
    assert report["recall"] == 1.0 and set(report["ms"]["4"]) == {"search"}
    assert "no settings of a hybrid" in refused(
        capsys, "index", "check", out, "--hybrid-depth", 7
    )
    assert "searches exactly" in refused(capsys, "index", "check", out, "--tune", 0.9)


def test_a_hybrid_of_two_corpora(folder, passages, capsys):
    index = load_index(folder / "hybrid")
    assert index.kind == "hybrid" and index.lexical.settings.k1 == 2.0
    assert (index.fusion.constant, index.fusion.weights) == (5.0, (1.0, 2.0))
    for number, corpus in ((399, "first.jsonl"), (400, "second.jsonl")):
        title = passages[number].title
        hit = ran(capsys, "index", "search", folder / "hybrid", title)["hits"][0]
        assert (hit["id"], hit["corpus"]) == (f"p{number}", corpus)
    # A weight of the command replaces that of the folder.
    words = ["index", "search", folder / "hybrid", passages[9].title]
    alone = ran(capsys, *words, "--hybrid-weights", "0,1")["hits"][0]
    assert alone["score"] == pytest.approx(1 / 6, abs=1e-6)


def test_questions(folder, capsys):
    words = ["index", "check", folder / "hybrid", "--questions"]
    report = ran(capsys, *words, folder / "questions.jsonl", "-k", "3")
    found = report["questions"]
    assert found["num_questions"] == found["num_with_titles"] == 4
    assert found["title_recall"] == found["all_titles"]
    assert found["title_recall"]["5"] == found["answer_in_passage"]["5"] == 1.0
    assert (report["kind"], report["recall"]) == ("hybrid", 1.0)
    assert set(report["ms"]) == {"1", "4"}
    assert set(report["ms"]["1"]) == {"total", "search"}


def test_a_reranker_orders_the_candidates(folder, passages, tmp_path, capsys):
    write_pair_folder(tmp_path / "pairs", passages[3].title.lower().split())
    words = ["index", "search", folder / "hybrid", passages[3].title, "-k", "4"]
    plain = ran(capsys, *words)["hits"]
    given = ["--rerank", tmp_path / "pairs", "--candidates", "4"]
    ordered = ran(capsys, *words, *given)["hits"]
    assert sorted(h["id"] for h in ordered) == sorted(h["id"] for h in plain)
    scores = [hit["score"] for hit in ordered]
    assert scores == sorted(scores, reverse=True) and 0 < scores[-1] < scores[0] < 1


@pytest.mark.slow
def test_tuning_writes_the_settings(passages, encoder, tmp_path, capsys):
    pytest.importorskip("scann", reason="ScaNN has wheels for Linux only")
    tree = TreeAh(num_leaves=24, leaves_to_search=1)
    build_index(passages, encoder, scorer=tree).save(tmp_path / "poor")
    before = ran(capsys, "index", "check", tmp_path / "poor")
    tuned = ran(capsys, "index", "check", tmp_path / "poor", "--tune", "0.9")
    assert before["recall"] < 0.7 and tuned["recall"] >= 0.9
    assert tuned["scorer"]["leaves_to_search"] > 1
    after = ran(capsys, "index", "check", tmp_path / "poor")
    assert (after["scorer"], after["recall"]) == (tuned["scorer"], tuned["recall"])
    line = refused(capsys, "index", "check", tmp_path / "poor", "--tune", "1.5")
    assert "--tune must be in (0, 1], got 1.5" in line


@pytest.mark.parametrize(
    "options, said",
    [
        (["--encoder", "bm25", "--hybrid"], "--encoder bm25 has none"),
        (["--k1", "2"], "--k1 is a setting of BM25"),
        (["--encoder", "bm25", "--language", "klingon"], "no stemmer"),
        (["--hybrid", "--b", "2"], "b must be from 0 to 1"),
        (["--hybrid", "--hybrid-weights", "1"], "must be two numbers"),
        (["--hybrid", "--hybrid-depth", "0"], "depth of a hybrid"),
        (["--encoder", "bm25", "--dims", "64"], "no --dims"),
        (["--encoder", "bm25", "--pooling", "cls"], "no pooling"),
    ],
    ids=["both", "k1", "language", "b", "weights", "depth", "dims", "pooling"],
)
def test_bad_options_are_one_line(folder, tmp_path, capsys, options, said):
    words = ["index", "build", "--corpus", folder / "first.jsonl"]
    assert said in refused(capsys, *words, "--out", tmp_path / "index", *options)
    assert not (tmp_path / "index").exists()


def test_options_of_a_check_that_do_not_fit(folder, capsys):
    words = ["index", "check", folder / "hybrid"]
    assert "--rerank needs --questions" in refused(capsys, *words, "--rerank", "x")
    words += ["--questions", folder / "questions.jsonl"]
    assert "--candidates needs --rerank" in refused(capsys, *words, "--candidates", 5)


def test_an_index_beside_its_limit(folder, capsys):
    found = ran(capsys, "bench", "retrieval", "--index", folder / "hybrid", "--k", "3")
    one, many = (found["batches"][size] for size in ("1", "4"))
    assert found["kind"] == "hybrid" and found["copy_bytes_per_s"] > 0
    assert 0 < one["search_limit_fraction"] < 1
    # All vectors in float16, and at least a score per passage and query.
    assert one["search_bytes"] > 600 * 256 * 2 + 600 * 4
    assert many["search_bytes"] > one["search_bytes"]
    assert one["search_flops"] * 4 == many["search_flops"]
    assert "give --url" in refused(capsys, "bench", "retrieval")
