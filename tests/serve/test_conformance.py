"""The exchanges of the reference servers, with our server in their place."""

import json
from pathlib import Path

import pytest

from jaxsearch.search.passages import Passage
from jaxsearch.serve.served_index import ServedIndex
from tests.serve.running import TableIndex, serving

FILE = Path(__file__).resolve().parents[2].parent / "shared/conformance/servers.json"
# Why an answer differs from the reference's.
EMPTY = "an empty list of queries is an empty list of answers"
BLANK = "a blank query inside a batch finds nothing, as our indexes have it"
K = "k above the corpus gives what there is, never a passage twice"
BAD_K = "a number of passages below 1 is a 422 with one line, no 500"
PER_QUERY = "without scores, /retrieve answers per query, however many there are"
ALL_DIALECTS = "one server has the paths of all dialects"
FLASK_500 = "a body with wrong fields is a 422 with FastAPI's list, no 500"
FLASK_HTML = "errors are JSON, no HTML page; the status is the reference's"

DOCUMENT_0 = {"id": "0", "contents": '"Paris"\nParis is the capital of France.'}
DOCUMENT_1 = {"id": "1", "contents": '"Seine"\nThe Seine flows through Paris.'}
DOCUMENT_2 = {"id": "2", "contents": '"Ottawa"\nOttawa is the capital of Canada.'}
LINES = [
    "0\tParis   Paris is the capital of France.",
    "1\tSeine   The Seine flows through Paris.",
]
# Exchange -> reason, status, and what is expected of the JSON: a value, or a function
# of the reference's value.
DEVIATIONS = {
    "research/search_defaults": (K, 200, lambda theirs: theirs[:6]),
    "research/search_defaults_top10_of_6": (
        K,
        200,
        lambda theirs: [part[:6] for part in theirs],
    ),
    "research/batch_defaults": (K, 200, lambda theirs: [theirs[0][:6]]),
    "research/batch_top_n_over_corpus": (K, 200, lambda theirs: [theirs[0][:6]]),
    "research/search_top_n_zero": (BAD_K, 422, "got 0"),
    "research/search_top_n_negative": (BAD_K, 422, "got -1"),
    "research/batch_empty_list": (EMPTY, 200, []),
    "research/batch_empty_list_score": (EMPTY, 200, [[], []]),
    "research/batch_blank_inside": (BLANK, 200, lambda theirs: [theirs[0], [], []]),
    "research/unknown_path": (
        ALL_DIALECTS,
        200,
        {
            "answers": [
                [
                    "0\tParis   Paris is the capital of France.",
                    "1\tSeine   The Seine flows through Paris.",
                    "2\tOttawa   Ottawa is the capital of Canada.",
                ]
            ],
            "queries": ["a"],
        },
    ),
    "r1_searcher/missing_queries": (FLASK_500, 422, None),
    "r1_searcher/k_string": (FLASK_500, 422, None),
    "r1_searcher/k_null": (FLASK_500, 422, None),
    "r1_searcher/k_zero": (BAD_K, 422, "got 0"),
    "r1_searcher/empty_list": (EMPTY, 200, {"answers": [], "queries": []}),
    "r1_searcher/blank_query": (
        BLANK,
        200,
        lambda theirs: theirs | {"answers": [[], theirs["answers"][1]]},
    ),
    "r1_searcher/k_over_corpus": (
        K,
        200,
        lambda theirs: theirs | {"answers": [theirs["answers"][0][:6]]},
    ),
    "r1_searcher/bad_json": (FLASK_HTML, 400, None),
    "r1_searcher/get": (FLASK_HTML, 405, None),
    "r1_searcher/wrong_content_type": (FLASK_HTML, 415, None),
    "r1_searcher/health_absent": (
        ALL_DIALECTS,
        200,
        {"status": "healthy", "retrievers": {"total": 2, "available": 2}},
    ),
    "search_r1/no_scores_one_query": (
        PER_QUERY,
        200,
        {"result": [[DOCUMENT_1, DOCUMENT_0]]},
    ),
    "search_r1/no_scores_two_queries": (
        PER_QUERY,
        200,
        {"result": [[DOCUMENT_0, DOCUMENT_2], [DOCUMENT_1, DOCUMENT_0]]},
    ),
    "search_r1/no_scores_three_queries": (
        PER_QUERY,
        200,
        {"result": [[DOCUMENT_0, DOCUMENT_1]] * 3},
    ),
    "search_r1/return_score_singular_ignored": (
        PER_QUERY,
        200,
        {"result": [[DOCUMENT_0]] * 2},
    ),
    "search_r1/empty_list_no_scores": (EMPTY, 200, {"result": []}),
    "search_r1/blank_query": (
        BLANK,
        200,
        lambda theirs: {"result": [[], theirs["result"][1]]},
    ),
    "search_r1/topk_over_corpus": (
        K,
        200,
        lambda theirs: {"result": [theirs["result"][0][:6]]},
    ),
    "search_r1/topk_negative": (BAD_K, 422, "got -1"),
}


def reference():
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


EXCHANGES = {
    f"{server}/{example['case']}": example
    for server, found in reference().get("servers", {}).items()
    for example in found["examples"]
}


@pytest.fixture(scope="module")
def servers():
    """A server per reference: R1-Searcher's corpus has texts of its own."""
    if not FILE.is_file():
        pytest.skip(f"needs {FILE}")
    fake = reference()["fake_retriever"]
    documents = [Passage(**document) for document in fake["docs"]]
    lines = [line.split("\t") for line in fake["r1_corpus_lines"]]
    of_lines = [Passage(id=number, contents=text) for number, text in lines]

    def index(passages):
        table = TableIndex(passages, fake["query_scores"])
        table.default = fake["default_scores"]
        # The reference has two retrievers.
        return ServedIndex(retriever=table, num_workers=2)

    with serving(index(documents)) as first, serving(index(of_lines)) as second:
        yield {"research": first, "search_r1": first, "r1_searcher": second}


def test_every_exchange_is_there(servers):
    kinds = [name.partition("/")[0] for name in EXCHANGES]
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts == {"research": 41, "r1_searcher": 18, "search_r1": 21}
    assert DEVIATIONS.keys() <= EXCHANGES.keys()


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchange(servers, name):
    example = EXCHANGES[name]
    theirs = example["response"]
    kind = example.get("content_type", "application/json")
    raw = example["raw_body"].encode() if "raw_body" in example else None
    reply = servers[name.partition("/")[0]].ask(
        example["path"],
        example.get("json"),
        raw=raw,
        method=example["method"],
        **({} if raw is None and "json" not in example else {"content_type": kind}),
    )
    if name not in DEVIATIONS:
        assert reply.status == theirs["status"]
        if "json" in theirs:
            assert reply.json == theirs["json"]
        else:
            assert reply.body.decode() == theirs["text"]
        assert reply.headers.get("content-type") == theirs["content_type"]
        return
    _, status, expected = DEVIATIONS[name]
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    if expected is None:
        assert reply.json.keys() == {"detail"}
    elif isinstance(expected, str):
        assert reply.detail.endswith(expected)
    else:
        value = expected(theirs["json"]) if callable(expected) else expected
        assert reply.json == value
        # A deviation that is none would hide a mistake.
        assert theirs["status"] != status or theirs.get("json") != value
