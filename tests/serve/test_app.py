"""Indexes by name, descriptions, metrics and the page of the API."""

import re

import pytest

from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.manifest import Manifest
from jaxsearch.search.passages import Passage
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from jaxsearch.serve.app import check_names
from jaxsearch.serve.served_index import ServedIndex
from tests.serve.running import TableIndex, few_passages, serving


def test_each_index_answers_below_its_name_and_the_first_at_the_root():
    news = [Passage(id="n", contents="News\nOnly news.")]
    named = {"wiki": TableIndex(few_passages(2)), "news": TableIndex(news)}
    with serving(named=named) as server:

        def first_id(path):
            return server.ask(path, {"query": "a"}).json[0]["id"]

        assert [first_id(p) for p in ("/search", "/wiki/search")] == ["0", "0"]
        assert first_id("/news/search") == "n"
        assert server.ask("/index").json["name"] == "wiki"
        described = server.ask("/news/index").json
        assert (described["name"], described["names"]) == ("news", ["wiki", "news"])
        for path in ("/nwes/search", "/nwes/index"):
            body = {"query": "a"} if path.endswith("search") else None
            reply = server.ask(path, body)
            assert reply.status == 404
            assert reply.detail == "no index 'nwes'; this server has: wiki, news"
        for path in ("/nothing", "/wiki/nothing", "/a/b/c"):
            reply = server.ask(path)
            assert (reply.status, reply.json) == (404, {"detail": "Not Found"})


def test_a_folder_is_described_by_its_manifest(tmp_path):
    passages = few_passages(9)
    ExactIndex(passages, TfidfEncoder.fit(passages, dims=32)).save(tmp_path / "index")
    manifest = Manifest.read(tmp_path / "index")
    with serving(ServedIndex.from_folder(tmp_path / "index")) as server:
        described = server.ask("/index").json
        found = server.ask("/queries", {"queries": "Page 3", "k": 1}).json
    assert described["server"] == "jaxsearch"
    assert described["num_passages"] == 9
    assert described["fingerprints"] == {
        "corpus": manifest.corpus_fingerprint,
        "encoder": manifest.encoder_fingerprint,
    }
    assert described["settings"]["encoder"] == "tfidf"
    assert described["dialects"] == ["search_r1", "research", "r1_searcher"]
    assert str(tmp_path) not in str(described)
    # R1-Searcher's lines have the title before the text.
    assert found == {"answers": [["3\tPage 3   Text 3."]], "queries": "Page 3"}


def test_metrics_count_requests_and_clients_cannot_add_lines():
    with serving(TableIndex(few_passages())) as server:
        for _ in range(3):
            server.ask("/search", {"query": "a"})
        server.ask("/search", {"query": "a", "top_n": 0})
        for number in range(5):
            server.ask(f"/path{number}")
            server.ask(f"/i0/path{number}")
        server.ask("/metrics")
        reply = server.ask("/metrics")
    text = reply.body.decode()
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'jaxsearch_requests_total{path="/search",status="200"} 3\n' in text
    assert 'jaxsearch_requests_total{path="/search",status="422"} 1\n' in text
    assert 'jaxsearch_requests_total{path="other",status="404"} 10\n' in text
    assert 'jaxsearch_request_seconds_count{path="/search"} 4\n' in text
    assert 'jaxsearch_queries_total{index="i0"} 3\n' in text
    # Every line is a comment or a sample, and each metric has one TYPE before it.
    names = re.findall(r"^# TYPE (\w+) \w+$", text, re.M)
    assert len(set(names)) == len(names) >= 7
    for line in text.splitlines():
        assert re.fullmatch(r"# TYPE .*|\w+(\{[^{}]+\})? [0-9.e+-]+", line), line


def test_counts_of_a_retriever_have_all_their_digits():
    class Counting(TableIndex):
        def search_counts(self):
            return {"queries": 1_234_567.0, "usd": 1234.567, "open": 0.0, "few": 3.0}

    with serving(Counting(few_passages())) as server:
        text = server.ask("/metrics").body.decode()
    found = re.findall(r'^jaxsearch_retriever_count\{.*name="(.*)"\} (.*)$', text, re.M)
    assert dict(found) == {
        "few": "3",
        "open": "0",
        "queries": "1234567",
        "usd": "1234.567",
    }


def test_the_api_has_a_page():
    with serving(TableIndex(few_passages())) as server:
        schema = server.ask("/openapi.json").json
        assert server.ask("/docs").status == 200
    assert schema["info"]["title"] == "jaxsearch serve"
    assert schema["paths"].keys() == {
        *("/health", "/index", "/search", "/batch_search", "/retrieve", "/queries"),
        "/metrics",
    }


@pytest.mark.parametrize("names", [[], ["a/b"], ["metrics"], [".."], ["é"], [""]])
def test_names_must_be_parts_of_paths(names):
    with pytest.raises(ValueError, match="index"):
        check_names(names)
