"""A search on servers, or of the web, is asked and answers as an index is."""

import pytest

from jaxsearch.remote.retriever import open_remote
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.index import Retriever
from jaxsearch.serve.served_index import ServedIndex
from jaxsearch.web.config import WebConfig
from jaxsearch.web.open import open_web
from tests.serve.running import serving
from tests.web.stub_providers import one_page


@pytest.fixture(scope="module")
def exact(passages, encoder):
    return ExactIndex(passages, encoder)


@pytest.mark.parametrize("dialect", ["auto", "research", "search_r1", "r1_searcher"])
def test_servers_answer_as_their_index_does(exact, queries, dialect):
    asked = [*queries[:20], "", "no such word"]
    own = exact.search(asked, 3)
    with serving(named={"wiki": ServedIndex(retriever=exact)}) as server:
        url = f"http://127.0.0.1:{server.port}"
        there = open_remote(url, dialect=dialect, note=lambda line: None)
        assert isinstance(there, Retriever)
        found = there.search(asked, 3)
    for mine, theirs in zip(own, found, strict=True):
        assert [hit.passage.contents for hit in mine] == [
            hit.passage.contents for hit in theirs
        ]
        # R1-Searcher's lines have neither scores nor the index's ids.
        if dialect != "r1_searcher":
            assert [hit.passage.id for hit in mine] == [
                hit.passage.id for hit in theirs
            ]


def test_the_web_answers_as_an_index_does(tmp_path):
    web = open_web(one_page, WebConfig(snippets=True), tmp_path / "web")
    assert isinstance(web, Retriever)
    [[hit], empty] = web.search(["ferry", " "], 3)
    assert hit.passage.title == "A" and "ferry" in hit.passage.text
    assert empty == []
