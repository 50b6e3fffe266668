"""Requests that a server refuses, and clients that it does not wait for."""

import contextlib
import json
import socket
import time

import pytest

from jaxsearch.search.passages import Passage
from tests.serve.running import TableIndex, few_passages, serving


@pytest.fixture(scope="module")
def server():
    with serving(
        TableIndex(few_passages()),
        max_queries=20,
        max_query_chars=100,
        max_k=50,
        max_passages=200,
        max_body_bytes=20_000,
        max_held_bytes=100_000,
    ) as running:
        yield running
        # Nothing that was sent has hurt it.
        assert running.ask("/search", {"query": "a"}).status == 200


@contextlib.contextmanager
def raw_connection(server, seconds=20.0):
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as sent:
        yield sent


def everything(connection):
    """What the server sends until it closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"query": "a", "top_n": 0}, "from 1 to 50, got 0"),
        ({"query": "a", "top_n": -1}, "from 1 to 50, got -1"),
        ({"query": "a", "top_n": 10**9}, "from 1 to 50, got 1000000000"),
        ({"query": "b" * 101}, "at most 100 characters per query, got 101 in query 1"),
        ({"query": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_one_line_says_what_is_refused(server, body, expected):
    reply = server.ask("/search", body)
    assert reply.status == 422
    assert expected in reply.detail


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"queries": ["a"] * 21}, "at most 20 queries per request, got 21"),
        ({"queries": ["a"] * 20, "topk": 11}, "at most 200 passages per request"),
        ({"queries": ["a"], "topk_retrieval": 9}, "need an index with a reranker"),
        ({"queries": ["a"], "topk_rerank": 3}, "need an index with a reranker"),
    ],
)
def test_one_line_says_what_retrieve_refuses(server, body, expected):
    reply = server.ask("/retrieve", body)
    assert reply.status == 422
    assert expected in reply.detail


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense", 422),
        (b'{"query": "a"', 422),
        (b'{"query": NaN}', 422),
        (b'{"query": ["\\ud800"]}', 422),
        (b'{"query": "\xff"}', 400),
        (b"[" * 15_000, 400),
        (b'{"top_n": ' + b"9" * 15_000 + b', "query": "a"}', 400),
        (b"null", 422),
        (b"[]", 422),
        (json.dumps({"query": list(range(3000))}).encode(), 422),
    ],
)
def test_bodies_that_are_not_understood_get_a_short_answer(server, raw, status):
    reply = server.ask("/batch_search", raw=raw)
    assert reply.status == status
    assert reply.json["detail"]
    assert len(reply.body) < 2500


def test_a_body_that_is_too_large_is_413_and_not_kept(server):
    # As most clients, this one sends all of it before it looks at the answer.
    reply = server.ask("/search", {"query": "a" * 100_000})
    assert (reply.status, reply.detail) == (413, "at most 20000 bytes per request")
    with raw_connection(server) as connection:
        connection.sendall(
            b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10000000000\r\n\r\n"
        )
        assert everything(connection).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_bounded_too(server):
    def chunks(num, size):
        return (b"%x\r\n" % size + b" " * size + b"\r\n") * num

    head = (
        b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    body = b'd\r\n{"query":"a"}\r\n'
    for filler, status in (
        (chunks(1, 1000), b"200"),
        (chunks(5, 5000), b"413"),
        (chunks(100, 5000), b"413"),
    ):
        with raw_connection(server) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(head + body + filler + b"0\r\n\r\n")
            assert everything(connection)[9:12] == status


def test_a_header_bomb_is_refused(server):
    with raw_connection(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /health HTTP/1.1\r\n")
            for number in range(2000):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"a" * 100))
        # Closing with unread input may lose the answer.
        assert everything(connection)[9:12] in (b"400", b"431", b"")


def test_clients_that_are_slow_are_closed():
    with serving(TableIndex(few_passages()), read_s=0.3, idle_s=0.3) as server:
        head = (
            b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 16\r\n\r\n"
        )
        silent, in_head, in_body, idle = (b"", head[:30], head + b'{"qu', head)
        for sent, status in (
            (silent, b""),
            (in_head, b""),
            (in_body, b"408"),
            (idle + b'{"query": "abc"}', b"200"),
        ):
            start = time.monotonic()
            with raw_connection(server) as connection:
                connection.sendall(sent)
                assert everything(connection)[9:12] == status
            assert 0.2 < time.monotonic() - start < 10
        # A byte from time to time does not help.
        with raw_connection(server) as connection:
            start = time.monotonic()
            with contextlib.suppress(ConnectionError):
                for byte in head * 5:
                    connection.send(bytes([byte]))
                    time.sleep(0.05)
            assert time.monotonic() - start < 10
        assert server.ask("/health").status == 200


def test_a_client_that_does_not_read_is_closed():
    # 15 MB, more than the system keeps for a connection.
    long = [Passage(id="0", contents="word " * 1000)] * 100
    with serving(TableIndex(long), write_s=0.3) as server:
        state = server.server.server_state
        with raw_connection(server) as connection:
            body = json.dumps({"queries": ["a"] * 30, "topk": 100}).encode()
            connection.sendall(
                b"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
                b"Content-Type: application/json\r\n\r\n" % len(body) + body
            )
            end = time.monotonic() + 30
            while not state.connections:
                assert time.monotonic() < end
            while state.connections:
                assert time.monotonic() < end
                time.sleep(0.02)


def test_bodies_under_way_are_bounded_together():
    with serving(
        TableIndex(few_passages()), max_body_bytes=1000, max_held_bytes=100
    ) as server:
        reply = server.ask("/search", {"query": "a" * 200})
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert server.ask("/search", {"query": "a"}).status == 200


def test_bodies_that_are_still_being_read_are_bounded_too():
    head = (
        b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 900\r\n\r\n"
    )
    with serving(
        TableIndex(few_passages()), max_body_bytes=1000, max_held_bytes=1000
    ) as server:

        def status(num):
            return server.ask("/search", {"query": "a" * num}).status

        def until(num, expected):
            end = time.monotonic() + 5
            while status(num) != expected:
                assert time.monotonic() < end
                time.sleep(0.01)

        with raw_connection(server) as stalled:
            stalled.sendall(head + b" " * 800)
            until(300, 503)
            # There is room for a small one.
            assert status(1) == 200
        until(300, 200)


def test_health_is_answered_before_a_body_arrives():
    with serving(TableIndex(few_passages()), token="right") as server:
        for method, expected in ((b"GET", b"200"), (b"POST", b"405")):
            with raw_connection(server, seconds=5.0) as stalled:
                head = b" /health HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n"
                stalled.sendall(method + head + b"{")
                assert stalled.recv(1000)[9:12] == expected


def test_a_token_is_asked_for_everywhere_but_health():
    with serving(TableIndex(few_passages()), token="right") as server:
        for wrong in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "right"},
        ):
            for path in ("/index", "/metrics", "/docs", "/i0/health", "/nothing"):
                reply = server.ask(path, **wrong)
                assert (reply.status, reply.headers["www-authenticate"]) == (
                    401,
                    "Bearer",
                )
                assert "right" not in reply.detail
            assert server.ask("/search", {"query": "a"}, **wrong).status == 401
        assert server.ask("/health").status == 200
        right = {"authorization": "Bearer right"}
        assert server.ask("/search", {"query": "a"}, **right).status == 200


def test_the_limits_are_checked():
    from jaxsearch.serve.limits import Limits

    with pytest.raises(ValueError, match="max_k must be > 0, got 0"):
        Limits(max_k=0)
    with pytest.raises(ValueError, match="max_waiting must be at least max_queries"):
        Limits(max_waiting=10)
