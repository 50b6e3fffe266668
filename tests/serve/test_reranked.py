"""`topk_retrieval` and `topk_rerank` of Search-R1 for an index with a reranker."""

import concurrent.futures
import threading
import time

import pytest

from tests.serve.running import TableIndex, few_passages, serving


class Reranked(TableIndex):
    """Puts its candidates in the opposite order, and records what it was asked."""

    def __init__(self):
        super().__init__(few_passages(20))
        self.asked = []
        self.gate, self.is_searching = threading.Event(), threading.Event()
        self.gate.set()

    def search_reranked(self, queries, k, *, num_candidates):
        self.asked.append((k, num_candidates))
        self.is_searching.set()
        assert self.gate.wait(30)
        return [hits[::-1][:k] for hits in self.search(queries, num_candidates)]


@pytest.mark.parametrize(
    ("fields", "asked", "first"),
    [
        ({"topk_retrieval": 5, "topk_rerank": 2}, (2, 5), "4"),
        ({"topk_retrieval": 5}, (3, 5), "4"),
        ({"topk_rerank": 2}, (2, 10), "9"),
        ({"topk_rerank": 12}, (12, 12), "11"),
        ({"topk_retrieval": 5, "topk": 1}, (1, 5), "4"),
        ({"topk": 4}, None, "0"),
    ],
)
def test_candidates_and_answers(fields, asked, first):
    index = Reranked()
    with serving(index) as server:
        reply = server.ask("/retrieve", {"queries": ["a", "b"]} | fields)
    num = asked[0] if asked else 4
    assert [len(found) for found in reply.json["result"]] == [num, num]
    assert reply.json["result"][0][0]["id"] == first
    assert index.asked == ([asked] if asked else [])


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"topk_retrieval": 2, "topk_rerank": 5}, "at least topk_rerank, got 2 and 5"),
        ({"topk_retrieval": 5, "topk_rerank": 0}, "from 1 to 1000, got 0"),
        ({"topk_retrieval": 10**9}, "from 1 to 1000, got 1000000000"),
        ({"topk_retrieval": -1}, "at least topk_rerank, got -1 and 3"),
    ],
)
def test_bad_depths(fields, error):
    with serving(Reranked()) as server:
        reply = server.ask("/retrieve", {"queries": ["a"]} | fields)
    assert reply.status == 422 and error in reply.detail


def test_requests_of_different_depths_do_not_share_a_batch():
    index = Reranked()
    index.gate.clear()
    with concurrent.futures.ThreadPoolExecutor() as pool, serving(index) as server:
        [batcher] = server.app.batchers.values()

        def ask(**fields):
            return pool.submit(server.ask, "/retrieve", {"queries": ["a"]} | fields)

        waiting = [ask(topk_retrieval=5)]
        assert index.is_searching.wait(20)
        waiting += [ask(topk_retrieval=9), ask(topk_retrieval=7), ask(topk=3)]
        end = time.monotonic() + 20
        while batcher.num_waiting < 3 and time.monotonic() < end:
            time.sleep(0.01)
        index.gate.set()
        firsts = [one.result().json["result"][0][0]["id"] for one in waiting]
    assert firsts == ["4", "8", "6", "0"]
    assert sorted(index.asked) == [(3, 5), (3, 7), (3, 9)]
