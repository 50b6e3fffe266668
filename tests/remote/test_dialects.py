"""Servers of ReSearch, Search-R1 and R1-Searcher, as they were recorded."""

import re

import pytest

from jaxsearch.protocol.r1_searcher import R1_SEARCHER
from jaxsearch.remote.dialects import DIALECTS
from jaxsearch.remote.retriever import open_remote
from jaxsearch.search.index import SearchError
from tests.remote import servers

QUERIES = ["capital of France", "river", "北京", "anything"]
SERVERS = {
    "research": servers.research,
    "search_r1": servers.search_r1,
    "r1_searcher": servers.r1_searcher,
}


def opened(url, notes=None, **options):
    return open_remote(url, note=(notes if notes is not None else []).append, **options)


def asks_like_us(example, dialect):
    """Whether an exchange is one that our client could make, and was answered."""
    has_scores = {
        "research": lambda body: body.get("return_score") is True,
        "search_r1": lambda body: body.get("return_scores") is True,
        "r1_searcher": lambda body: True,
    }[dialect.name]
    body = example.get("json")
    return (
        example["path"] == dialect.path
        and example["response"]["status"] == 200
        and isinstance(body, dict)
        and isinstance(body.get("query", body.get("queries")), list)
        and has_scores(body)
    )


@pytest.mark.parametrize("name", DIALECTS)
def test_recorded_answers_are_read(recorded, table, name):
    """Each has the passages and scores of the table, none of them twice."""
    dialect = DIALECTS[name]
    examples = [
        one
        for one in recorded["servers"][name]["examples"]
        if asks_like_us(one, dialect)
    ]
    assert len(examples) >= 2
    for example in examples:
        body, answer = example["json"], example["response"]["json"]
        queries = body.get("query", body.get("queries"))
        k = int(body.get("top_n") or body.get("topk") or body.get("k") or 3)
        if name == "r1_searcher":
            k = body.get("k", 3)
        found = dialect.read(answer, len(queries), k)
        for query, hits in zip(queries, found, strict=True):
            expected = [(str(i), score) for i, score in table.found(query, min(k, 6))]
            assert [hit.passage.id for hit in hits] == [i for i, _ in expected]
            if name != "r1_searcher":
                assert [hit.score for hit in hits] == [score for _, score in expected]


@pytest.mark.parametrize("name", DIALECTS)
def test_every_server_gives_the_same_passages(table, name):
    notes = []
    with servers.serving(SERVERS[name](table)) as [server]:
        index = opened(server.url, notes)
        found = index.search(QUERIES, 3)
        [note] = notes
    assert re.match(rf"{server.url}: dialect {name} \(.*not say what it searches", note)
    for query, hits in zip(QUERIES, found, strict=True):
        for hit, (i, score) in zip(hits, table.found(query, 3), strict=True):
            assert hit.passage.id == str(i)
            if i < 5:
                title, text = table.docs[i]["contents"].split("\n", 1)
                assert hit.passage.contents.split("\n", 1)[0] == title
                assert hit.passage.text.replace("\\", "").replace(
                    '"', ""
                ) == text.replace("\\", "").replace('"', "")
            if name != "r1_searcher":
                assert hit.score == score
        assert sorted(hits, key=lambda hit: -hit.score) == hits


def test_a_line_of_r1_searcher_is_shown_as_it_was(table):
    """Its own protocol prints the corpus line again, with and without a title."""
    with servers.serving(servers.r1_searcher(table)) as [server]:
        [hits] = opened(server.url).search(["river"], 6)
    shown = R1_SEARCHER.render([hit.passage for hit in hits]).splitlines()
    lines = [table.lines[int(hit.passage.id)] for hit in hits]
    assert shown == [f"({n}){line.split(chr(9))[1]}" for n, line in enumerate(lines, 1)]


def test_openapi_health_or_a_query_tell_the_dialect(table):
    answers = (
        servers.search_r1(table),
        servers.search_r1(table, has_openapi=False),
        servers.research(table),
        servers.r1_searcher(table),
    )
    expected = ("openapi.json has /retrieve", "POST /retrieve", "/health is", "POST /q")
    with servers.serving(*answers) as running:
        for server, how in zip(running, expected, strict=True):
            assert how in opened(server.url).description.how


@pytest.mark.parametrize("name", DIALECTS)
def test_a_wrong_dialect_names_the_right_one(table, name):
    with servers.serving(SERVERS[name](table)) as [server]:
        for other in DIALECTS.keys() - {name}:
            wrong = f"not answer in the dialect {other}, but in {name}, .* give --retri"
            with pytest.raises(ValueError, match=wrong):
                opened(server.url, dialect=other)
        assert opened(server.url, dialect=name).description.how == "as given"
        path = DIALECTS[name].path
        assert opened(server.url + path).description.dialect.name == name


def test_a_server_without_any_dialect_is_refused(table):
    def nothing(exchange, method, path, asked):
        exchange.json({"detail": "Not Found"}, 404)

    with servers.serving(nothing) as [server]:
        with pytest.raises(ValueError, match="none of the dialects search_r1, researc"):
            opened(server.url)
        with pytest.raises(ValueError, match="dialect research, nor in another"):
            opened(server.url, dialect="research")


READ = DIALECTS["search_r1"].read


def test_documents_without_id_and_score():
    online = {"result": [[{"document": {"contents": '"T"\na text'}}, "plain", "plain"]]}
    [hits] = READ(online, 1, 5)
    assert [hit.passage.contents for hit in hits] == ['"T"\na text', "plain"]
    assert [hit.score for hit in hits] == [1.0, 0.5]
    assert all(len(hit.passage.id) == 16 for hit in hits)
    again = READ(online, 1, 5)[0]
    assert [h.passage.id for h in again] == [h.passage.id for h in hits]
    flat = {"result": [[{"id": 7, "title": "T", "text": "x"}]]}
    [[hit]] = READ(flat, 1, 5)
    assert (hit.passage.id, hit.passage.contents) == ("7", '"T"\nx')
    plain = DIALECTS["research"].read([[{"id": "1", "contents": "a"}], []], 2, 5)
    assert [len(hits) for hits in plain] == [1, 0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([], "expected an object with 'result'"),
        ({"result": None}, "expected a list of answers, got None"),
        ({"result": [[], []]}, "2 answers to 1 queries"),
        ({"result": [3]}, "expected a list of documents, got 3"),
        ({"result": [[3]]}, "expected a document, got 3"),
        ({"result": [[{"document": {"id": "a"}}]]}, "text of a document, got None"),
        ({"result": [[{"document": {"contents": 1}}]]}, "text of a document, got 1"),
        ({"result": [[{"id": 1.5, "contents": "a"}]]}, "id of a document, got 1.5"),
        ({"result": [[{"id": ["a"], "contents": "a"}]]}, "id of a document"),
        ({"result": [[{"id": True, "contents": "a"}]]}, "id of a document, got True"),
        ({"result": [[{"contents": "\ud800"}]]}, "half of a surrogate pair"),
        (
            {"result": [[{"document": "a", "score": "high"}]]},
            "score of a document, got 'high'",
        ),
        (
            {"result": [[{"document": "a", "score": float("inf")}]]},
            "score of a document, got inf",
        ),
    ],
)
def test_malformed_answers_are_failed_searches(answer, reason):
    with pytest.raises(SearchError, match=re.escape(reason)):
        READ(answer, 1, 5)
