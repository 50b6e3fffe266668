"""Several servers of one index, of which some fail; and what a client sends."""

import statistics
import threading
import time

import pytest

from jaxsearch.api.retrieval import load_retriever
from jaxsearch.env.retries import RetryingRetriever
from jaxsearch.remote.retriever import open_remote
from jaxsearch.remote.settings import ClientSettings
from jaxsearch.search.index import SearchError
from tests.remote import servers

UNCACHED = ClientSettings(cached_queries=0)


def opened(*running, notes=None, **options):
    options.setdefault("settings", UNCACHED)
    urls = [one if isinstance(one, str) else one.url for one in running]
    note = (notes if notes is not None else []).append
    return open_remote(",".join(urls), note=note, **options)


def hangs_in_searches(answer):
    def hanging(exchange, method, path, asked):
        if method == "POST":
            exchange.hang()
        else:
            answer(exchange, method, path, asked)

    return hanging


def test_answers_are_those_of_the_index(exact, queries):
    with servers.serving(servers.ours(exact)) as [server]:
        notes = []
        index = opened(server, notes=notes)
        asked = [*queries, "", "  ", queries[0]]
        found = index.search(asked, 4)
        assert found == [*exact.search(queries, 4), [], [], exact.search(asked, 4)[-1]]
    assert notes == [
        f"{server.url}: dialect search_r1 (/index: a server of jaxsearch); 600 "
        "passages, corpus c0ffee, encoder e5e5e5"
    ]
    sent = [query for _, _, body in server.posts for query in body["queries"]]
    assert sorted(sent) == sorted(set(queries))
    assert index.searched["fingerprints"] == servers.FINGERPRINTS


def test_the_api_takes_an_address(exact, queries):
    with servers.serving(servers.ours(exact)) as [server]:
        index = load_retriever(server.url)
        assert index.search(queries[:3], 2) == exact.search(queries[:3], 2)
    with pytest.raises(ValueError, match="no search server answers"):
        load_retriever(server.url)


def test_a_large_batch_is_split_and_connections_are_kept(exact, queries):
    settings = ClientSettings(max_queries=8, max_requests=3, cached_queries=0)
    answer = servers.slowly(servers.ours(exact), 0.02)
    with servers.serving(answer) as [server]:
        index = opened(server, settings=settings)
        for _ in range(3):
            assert index.search(queries, 2) == exact.search(queries, 2)
    assert max(len(body["queries"]) for _, _, body in server.posts) == 8
    assert 1 < server.most_at_once <= 3
    assert len(server.connections) <= 4 < len(server.posts)


def test_the_cache_is_bounded(exact, queries):
    settings = ClientSettings(cached_queries=10)
    with servers.serving(servers.ours(exact)) as [server]:
        index = opened(server, settings=settings)
        first = index.search(queries[:10], 2)
        assert index.search(queries[:10], 2) == first and len(server.posts) == 1
        index.search(queries[:10], 3)
        assert len(server.posts) == 2
        index.search(queries[10:40], 3)
        assert len(index._cache) == 10
        index.search(queries[:1], 3)
        assert len(server.posts) == 4


def times_of(index, queries, seconds):
    """(when, how long) of searches one after another."""
    times, until = [], time.monotonic() + seconds
    began = time.monotonic()
    number = 0
    while time.monotonic() < until:
        started = time.monotonic()
        query = queries[number % len(queries)]
        assert len(index.search([query], 3)[0]) == 3
        times.append((started - began, time.monotonic() - started))
        number += 1
    return times


@pytest.mark.slow
def test_one_server_hangs_and_one_refuses(exact, queries):
    """Every query is answered, and soon as fast as by the good server alone."""
    good = servers.slowly(servers.ours(exact), 0.02)
    with servers.serving(good, hangs_in_searches(servers.ours(exact))) as running:
        alone = RetryingRetriever(opened(running[0]), attempts=3, timeout_s=30.0)
        expected = [seconds for _, seconds in times_of(alone, queries, 1.0)]
        refusing = f"http://127.0.0.1:{servers.free_port()}"
        notes = []
        pool = opened(refusing, running[1], running[0], notes=notes)
        times = times_of(
            RetryingRetriever(pool, attempts=3, timeout_s=30.0), queries, 6.5
        )
    assert any("the other servers are asked until it answers" in one for one in notes)
    late = [seconds for began, seconds in times if began > 5.0]
    assert len(late) > 10
    # Far below the 30 s of a server that hangs; `bench retrieval` measures the rest.
    assert statistics.median(late) <= 10 * statistics.median(expected)
    refused, hanging, answering = pool.servers
    assert refused.is_open and not answering.is_open
    assert hanging.num_requests <= 3 and answering.num_errors == 0


class Changing:
    """A server that answers with status 500 until `answer` is set."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, exchange, *request):
        if self.answer is None:
            exchange.json({"detail": "starting"}, 500)
        else:
            self.answer(exchange, *request)


def hangs(exchange, method, path, asked):
    exchange.hang()


def seconds_of(index):
    """How long a search takes."""
    started = time.monotonic()
    assert len(index.search(["smith"], 3)[0]) == 3
    return time.monotonic() - started


def test_a_slow_answer_does_not_wait_for_the_probe_of_another_server(exact):
    good = servers.ours(exact)

    def slow(exchange, method, path, asked):
        # Longer than an answer may take until a second server is looked for.
        time.sleep(1.4 * (method == "POST"))
        good(exchange, method, path, asked)

    resting = Changing(None)
    with servers.serving(resting, slow) as running:
        index = opened(*running, timeout_s=5.0)
        resting.answer = hangs
        # So its rest of a second is over then.
        time.sleep(0.2)
        assert seconds_of(index) < 3.0
        hanging, _ = index.servers
        assert hanging.is_open and ("GET", "/index", None) in running[0].requests[1:]


def test_one_good_probe_is_enough(exact):
    hanging, good = Changing(None), Changing(servers.ours(exact))
    with servers.serving(hanging, good) as running:
        index = opened(*running, timeout_s=5.0)
        good.answer = None
        for _ in range(3):
            with pytest.raises(SearchError, match="starting"):
                index.search(["smith"], 3)
        hanging.answer, good.answer = hangs, servers.ours(exact)
        assert all(one.is_open for one in index.servers)
        time.sleep(1.1)
        assert seconds_of(index) < 3.0


def test_work_goes_to_the_server_with_the_least(exact, queries):
    fast, slow = servers.ours(exact), servers.slowly(servers.ours(exact), 0.2)
    with servers.serving(fast, slow) as running:
        index = opened(*running)
        threads = [
            threading.Thread(target=times_of, args=(index, queries, 1.0))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        quick, late = index.servers
    assert late.num_requests > 2 and quick.num_requests > 3 * late.num_requests


def test_a_breaker_opens_and_closes_again(exact):
    port = servers.free_port()
    first = servers.SearchServer(servers.ours(exact), port)
    index = opened(first)
    first.stop()
    for _ in range(3):
        with pytest.raises(SearchError, match="cannot connect|closed|reset"):
            index.search(["smith"], 1)
    assert index.servers[0].is_open
    with pytest.raises(SearchError, match="no server to ask for"):
        index.search(["smith"], 1)
    second = servers.SearchServer(servers.ours(exact), port)
    try:
        patient = RetryingRetriever(index, attempts=3, timeout_s=5.0)
        assert len(patient.search(["smith"], 1)[0]) == 1
        assert not index.servers[0].is_open
    finally:
        second.stop()


def test_a_server_that_comes_back_with_another_index_stays_out(exact):
    port = servers.free_port()
    first = servers.SearchServer(servers.ours(exact), port)
    index = opened(first)
    first.stop()
    for _ in range(3):
        with pytest.raises(SearchError):
            index.search(["smith"], 1)
    other = servers.ours(exact, {"corpus": "bad", "encoder": "e5e5e5"})
    second = servers.SearchServer(other, port)
    time.sleep(1.1)
    try:
        with pytest.raises(SearchError, match="another index.*corpus bad.*c0ffee"):
            index.search(["smith"], 1)
        assert not second.posts
    finally:
        second.stop()


def test_servers_of_a_pool_have_one_index_and_one_dialect(exact, table):
    other = servers.ours(exact, {"corpus": "bad"})
    answers = (servers.ours(exact), other, servers.research(table))
    with servers.serving(*answers) as running:
        with pytest.raises(ValueError, match="different indexes: corpus c0ffee"):
            opened(running[0], running[1])
        with pytest.raises(ValueError, match="speaks search_r1 and .* research"):
            opened(running[0], running[2])
