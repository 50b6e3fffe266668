"""An index in another process, with real connections and failures."""

import contextlib
import dataclasses
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxsearch.search import shared_index
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.index import SearchError
from jaxsearch.search.shared_index import ServerAddress, SharedIndex, serve


class Failing:
    def search(self, queries, k):
        raise SearchError("the disk is gone")


class Defective:
    def search(self, queries, k):
        raise KeyError("a defect")


@pytest.fixture(scope="module")
def exact(passages, encoder):
    return ExactIndex(passages, encoder)


@pytest.fixture(scope="module")
def shared(exact):
    return SharedIndex(serve([Failing(), exact]), 1)


def test_answers_are_those_of_the_index(exact, shared, queries):
    assert shared.search(queries, 5) == exact.search(queries, 5)
    assert shared.search([], 5) == []
    assert shared.search([" "], 3) == [[]]


def test_hits_say_their_corpus(exact):
    class OfOneCorpus:
        def search(self, queries, k):
            found = exact.search(queries, k)
            return [[dataclasses.replace(h, corpus="news") for h in f] for f in found]

    [[hit]] = SharedIndex(serve([OfOneCorpus()]), 0).search(
        [exact.passages[3].title], 1
    )
    assert (hit.passage, hit.corpus) == (exact.passages[3], "news")


@pytest.mark.slow
def test_many_ask_at_once(exact, shared, queries):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda q: shared.search([q], 3), queries * 4))
    assert answers == [[hits] for hits in exact.search(queries, 3)] * 4


def test_the_failure_of_an_index_is_told():
    failing = SharedIndex(serve([Failing()]), 0)
    with pytest.raises(SearchError, match="the disk is gone"):
        failing.search(["a"], 1)


def test_a_defect_there_is_told_here():
    with pytest.raises(SearchError, match="KeyError: 'a defect'"):
        SharedIndex(serve([Defective()]), 0).search(["a"], 1)


def test_nobody_else_may_ask(exact):
    door = serve([exact])
    stranger = SharedIndex(ServerAddress(port=door.port, key=b"guessed"), 0)
    with pytest.raises(SearchError, match="refused"):
        stranger.search(["a"], 1)
    # Clients with the right key can still connect.
    assert SharedIndex(door, 0).search([" "], 1) == [[]]


def test_silent_and_lying_connections_delay_nobody(exact, queries, monkeypatch):
    """More of them than the server keeps: those that prove the key are answered."""
    monkeypatch.setattr(shared_index, "_MAX_UNPROVED", 20)
    monkeypatch.setattr(shared_index, "_HANDSHAKE_S", 60.0)
    door = serve([exact])
    expected = exact.search(queries[:1], 3)
    with contextlib.ExitStack() as stack:
        for number in range(40):
            address = ("127.0.0.1", door.port)
            stranger = stack.enter_context(socket.create_connection(address, 5))
            if number % 2:
                stranger.sendall(b"\xff" * 7)
        start = time.monotonic()
        assert SharedIndex(door, 0).search(queries[:1], 3) == expected
        assert time.monotonic() - start < 2.0


def test_a_stranger_is_cut_off_in_time(exact, monkeypatch):
    monkeypatch.setattr(shared_index, "_HANDSHAKE_S", 0.3)
    door = serve([exact])
    with socket.create_connection(("127.0.0.1", door.port), 5) as stranger:
        assert len(stranger.recv(100)) == 32
        assert stranger.recv(100) == b""


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    """As after the process has gone and another one has its port."""
    monkeypatch.setattr(shared_index, "_HANDSHAKE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = ServerAddress(port=other.getsockname()[1], key=b"k")
        with pytest.raises(TimeoutError):
            SharedIndex(address, 0).search(["a"], 1)


def test_a_server_without_the_key_gets_no_query():
    """It repeats what it has received, which proves nothing."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def repeat():
            client, _ = other.accept()
            with client:
                client.sendall(b"n" * 32)
                received = client.recv(64, socket.MSG_WAITALL)
                client.sendall(received[32:])
                heard.append(client.recv(100))

        heard: list[bytes] = []
        thread = threading.Thread(target=repeat)
        thread.start()
        address = ServerAddress(port=other.getsockname()[1], key=b"k")
        with pytest.raises(SearchError, match="refused the key"):
            SharedIndex(address, 0).search(["secret"], 1)
        thread.join()
        assert heard == [b""]
