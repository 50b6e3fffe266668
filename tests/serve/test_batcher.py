"""Requests that wait are searched together, and each gets the answer of its own."""

import concurrent.futures
import gc
import time

import pytest

from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.index import Hit, SearchError
from jaxsearch.search.indexes import build_index
from jaxsearch.search.passages import Passage
from jaxsearch.search.scann_scorer import TreeAh
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from jaxsearch.serve.served_index import ServedIndex
from tests.serve.running import GatedIndex, TableIndex, few_passages, serving

WORDS = "ka mo ri ten sul ba vor ny el os".split()


def passages(num=200):
    return [
        Passage(
            id=f"p{i}",
            contents=f"{WORDS[i % 10]}{i}\n{WORDS[i % 7]} {WORDS[i % 9]} word{i % 31}",
        )
        for i in range(num)
    ]


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        yield threads


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def retrieve(server, queries, k=3, **more):
    return server.ask(
        "/retrieve", {"queries": queries, "topk": k, "return_scores": True}, **more
    )


def tree(corpus, encoder):
    pytest.importorskip("scann", reason="ScaNN has wheels for Linux only")
    scorer = TreeAh(num_leaves=4, leaves_to_search=4)
    return build_index(corpus, encoder, scorer=scorer)


@pytest.mark.parametrize("kind", [ExactIndex, tree])
def test_answers_do_not_depend_on_what_waits(pool, kind):
    corpus = passages()
    index = kind(corpus, TfidfEncoder.fit(corpus, dims=64))
    queries = [f"{WORDS[i % 7]} word{i}" for i in range(40)] + ["", "unknown"]
    # The answers of batches of one, in process.
    alone = [index.search([query], 4)[0] for query in queries]
    requests = [queries[i : i + 1 + i % 5] for i in range(len(queries))]
    with serving(index, max_batch=16) as server:
        replies = list(pool.map(lambda r: retrieve(server, r, 4), requests))
        text = server.ask("/metrics").body.decode()
    for start, (asked, reply) in enumerate(zip(requests, replies, strict=True)):
        expected = alone[start : start + len(asked)]
        assert [
            [(hit["document"], hit["score"]) for hit in hits]
            for hits in reply.json["result"]
        ] == [
            [
                ({"id": h.passage.id, "contents": h.passage.contents}, h.score)
                for h in hits
            ]
            for hits in expected
        ]
    num = sum(map(len, requests))
    assert f'jaxsearch_queries_total{{index="i0"}} {num}' in text


def test_requests_with_the_same_k_share_a_batch_of_bounded_size(pool):
    index = GatedIndex(few_passages())
    with serving(index, max_batch=4) as server:
        asked = [
            (["first"], 3),
            (["a", "b"], 3),
            (["other k"], 2),
            (["c", "d", "e"], 3),
        ]
        [batcher] = server.app.batchers.values()
        replies = [pool.submit(retrieve, server, *asked[0])]
        assert index.is_searching.wait(20)
        for number in range(1, len(asked)):
            replies.append(pool.submit(retrieve, server, *asked[number]))
            num = sum(len(queries) for queries, _ in asked[1 : number + 1])
            until(lambda num=num: batcher.num_waiting == num)
        index.gate.set()
        results = [reply.result().json["result"] for reply in replies]
    # A request whose queries do not fit is continued after the others.
    assert index.batches == [["first"], ["a", "b", "c", "d"], ["other k"], ["e"]]
    for (queries, k), result in zip(asked, results, strict=True):
        assert [len(hits) for hits in result] == [k] * len(queries)


def test_a_full_queue_is_503_with_retry_after_and_health_answers(pool):
    index = GatedIndex(few_passages())
    with serving(index, max_waiting=4, max_queries=4) as server:
        [batcher] = server.app.batchers.values()
        first = pool.submit(retrieve, server, ["first"])
        assert index.is_searching.wait(20)
        waiting = pool.submit(retrieve, server, ["a", "b", "c", "d"])
        until(lambda: batcher.num_waiting == 4)
        full = retrieve(server, ["e"])
        assert (full.status, full.headers["retry-after"]) == (503, "1")
        assert full.detail == "4 queries wait already; try again later"
        health = server.ask("/health").json["retrievers"]
        assert health == {"total": 1, "available": 0}
        assert 'jaxsearch_waiting_queries{index="i0"} 4' in (
            server.ask("/metrics").body.decode()
        )
        index.gate.set()
        assert first.result().status == waiting.result().status == 200
        assert retrieve(server, ["e"]).status == 200
        assert batcher.num_waiting == 0


def test_an_answer_that_takes_too_long_is_504_and_leaves_the_queue(pool):
    index = GatedIndex(few_passages())
    with serving(index, answer_s=0.2) as server:
        [batcher] = server.app.batchers.values()
        first = pool.submit(retrieve, server, ["first"])
        assert index.is_searching.wait(20)
        late = retrieve(server, ["late"])
        assert (late.status, late.detail) == (504, "no answer within 0.2 s")
        assert first.result().status == 504
        assert batcher.num_waiting == 0
        index.gate.set()
        assert retrieve(server, ["next"]).status == 200
    assert index.batches == [["first"], ["next"]]


def test_the_queries_of_a_client_that_leaves_are_not_searched(pool):
    index = GatedIndex(few_passages())
    with serving(index) as server:
        [batcher] = server.app.batchers.values()
        first = pool.submit(retrieve, server, ["first"])
        assert index.is_searching.wait(20)
        leaver = server.connect()
        leaver.request(
            "POST",
            "/search",
            b'{"query": "left"}',
            {"content-type": "application/json"},
        )
        until(lambda: batcher.num_waiting == 1)
        leaver.close()
        until(lambda: batcher.num_waiting == 0)
        index.gate.set()
        assert first.result().status == 200
    assert index.batches == [["first"]]


class Moody(TableIndex):
    """Fails as its query says."""

    def search(self, queries, k):
        if "down" in queries:
            raise SearchError("its disk\nis away")
        if "defect" in queries:
            raise KeyError("defect")
        if "nan" in queries:
            return [[Hit(passage=self.passages[0], score=float("nan"))]]
        if "few" in queries:
            return []
        return super().search(queries, k)


def test_failures_of_the_retriever_are_the_request_s_own(pool):
    with serving(Moody(few_passages())) as server:
        down = retrieve(server, ["down"])
        assert (down.status, down.headers["retry-after"]) == (503, "5")
        assert down.detail == "the index cannot answer now: its disk is away"
        for query in ("defect", "nan", "few"):
            failed = retrieve(server, [query])
            assert failed.status == 500
            assert failed.detail.startswith("the index failed (")
        assert retrieve(server, ["fine"]).status == 200
        failures = server.ask("/metrics").body.decode()
    assert 'jaxsearch_search_failures_total{index="i0"} 3' in failures


def test_a_defect_does_not_spread_to_the_requests_of_its_batch(pool):
    class Both(GatedIndex):
        def search(self, queries, k):
            found = super().search(queries, k)
            if "defect" in queries:
                raise KeyError("defect")
            return found

    index = Both(few_passages())
    with serving(index) as server:
        [batcher] = server.app.batchers.values()
        first = pool.submit(retrieve, server, ["first"])
        assert index.is_searching.wait(20)
        good = pool.submit(retrieve, server, ["good"])
        until(lambda: batcher.num_waiting == 1)
        bad = pool.submit(retrieve, server, ["defect"])
        until(lambda: batcher.num_waiting == 2)
        index.gate.set()
        statuses = [reply.result().status for reply in (first, good, bad)]
    assert statuses == [200, 200, 500]
    assert ["good", "defect"] in index.batches


def test_a_search_that_fails_after_its_client_left_is_not_printed(pool, caplog):
    class Failing(GatedIndex):
        def search(self, queries, k):
            super().search(queries, k)
            raise SearchError("its disk is away")

    index = Failing(few_passages())
    with serving(index) as server:
        [batcher] = server.app.batchers.values()
        leaver = server.connect()
        sent = {"content-type": "application/json"}
        leaver.request("POST", "/search", b'{"query": "left"}', sent)
        assert index.is_searching.wait(20)
        leaver.close()
        until(lambda: not batcher._unanswered)
        index.gate.set()
        # After another one, the worker holds nothing of the first.
        assert retrieve(server, ["next"]).status == 503
        gc.collect()
        assert server.ask("/health").status == 200
    assert index.batches == [["left"], ["next"]]
    assert "its disk is away" not in caplog.text


def test_an_error_in_the_log_does_not_act_on_a_terminal(caplog):
    class Loud(TableIndex):
        def search(self, queries, k):
            raise ValueError("\x1b[2Jgone")

    with serving(Loud(few_passages())) as server:
        assert retrieve(server, ["a"]).status == 500
    assert "Traceback" in caplog.text and "ValueError: \\x1b[2Jgone" in caplog.text
    assert "\x1b" not in caplog.text


def test_workers_search_at_once(pool):
    index = GatedIndex(few_passages())
    with serving(ServedIndex(retriever=index, num_workers=2)) as server:
        # Different k, so that they cannot share a batch.
        replies = [pool.submit(retrieve, server, ["a"], k) for k in (2, 3)]
        until(lambda: len(index.batches) == 2)
        index.gate.set()
        assert [reply.result().status for reply in replies] == [200, 200]


def test_an_index_may_have_smaller_batches_than_the_server():
    index = GatedIndex(few_passages())
    index.gate.set()
    with serving(ServedIndex(retriever=index, max_batch=1)) as server:
        reply = server.ask("/retrieve", {"queries": ["a", "b", "c"], "topk": 1})
    assert [len(found) for found in reply.json["result"]] == [1, 1, 1]
    assert index.batches == [["a"], ["b"], ["c"]]
