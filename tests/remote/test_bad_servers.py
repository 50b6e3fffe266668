"""Servers that answer nonsense, or not at all: a clear error, in bounded time."""

import json
import time

import pytest

from jaxsearch.env.retries import RetryingRetriever
from jaxsearch.key_addresses import allow_keys
from jaxsearch.remote.retriever import open_remote
from jaxsearch.search.index import (
    BusySearchError,
    RefusedSearchError,
    SearchError,
)
from tests.remote import servers


def opened(url, **options):
    allow_keys(url)
    return open_remote(url, note=lambda line: None, **options)


class Switched:
    """A good server whose answers to searches can be replaced."""

    def __init__(self, index):
        self.good = servers.ours(index)
        self.bad = None

    def __call__(self, exchange, method, path, asked):
        if self.bad is None or method == "GET":
            self.good(exchange, method, path, asked)
        else:
            self.bad(exchange)


@pytest.fixture
def switched(exact):
    """(what it answers, the server, a client that had opened it)."""
    answer = Switched(exact)
    with servers.serving(answer) as [server]:
        yield answer, server, opened(server.url, timeout_s=2.0)


GOOD = {"result": [[{"document": {"id": "1", "contents": "a"}, "score": 1.0}]]}


def html(exchange):
    exchange.raw(b"<html>\n<b>Bad\x1b[31m gateway</b>", kind="text/html")


def half(exchange):
    body = json.dumps(GOOD).encode()
    exchange.raw(body[:20], length=len(body))


def huge(exchange):
    exchange.raw(b'{"result": "' + b"a" * 10_000_000 + b'"}')


def nan(exchange):
    exchange.raw(json.dumps(GOOD).replace("1.0", "NaN").encode())


def deep(exchange):
    exchange.raw(b"[" * 100_000)


def packed(exchange):
    exchange.raw(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})


def another_count(exchange):
    exchange.json({"result": GOOD["result"] * 3})


def hanging(exchange):
    exchange.hang()


def dripping(exchange):
    exchange.handler.send_response(200)
    exchange.handler.send_header("Content-Length", "1000")
    exchange.handler.end_headers()
    for _ in range(100):
        exchange.handler.wfile.write(b" ")
        exchange.handler.wfile.flush()
        if exchange.server.released.wait(0.2):
            break


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (html, "expected JSON, got text/html: '<html> <b>Bad.31m gateway</b>'"),
        (half, "peer closed connection"),
        (huge, "the answer has more than 1,1"),
        (nan, "expected JSON, got application/json"),
        (deep, "expected JSON, got application/json"),
        (packed, r"the answer is compressed \('gzip'\), unasked"),
        (another_count, "3 answers to 1 queries"),
        (hanging, "no answer within 1.9 s"),
        (dripping, "no answer within 1.9 s"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_nonsense_is_a_failed_search_with_a_reason(switched, bad, reason):
    answer, server, index = switched
    answer.bad = bad
    started = time.monotonic()
    with pytest.raises(SearchError, match=rf"^{server.url}/retrieve: .*{reason}"):
        index.search(["smith"], 5)
    assert time.monotonic() - started < 4.0
    answer.bad = None
    time.sleep(1.1 * (bad in (hanging, dripping)))
    assert len(index.search(["smith"], 5)[0]) == 5


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/", "http://169.254.169.254/x"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(switched, status, target):
    answer, server, index = switched
    answer.bad = lambda e: e.json({}, status, {"Location": f"{target}?secret"})
    with pytest.raises(RefusedSearchError, match="redirects are not followed") as error:
        index.search(["smith"], 1)
    assert target in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize("status", [400, 404, 405, 413, 422])
def test_refusals_are_not_repeated(switched, status):
    answer, server, index = switched
    answer.bad = lambda e: e.json({"detail": "no\nsuch thing"}, status)
    before = len(server.posts)
    with pytest.raises(SearchError, match=rf"in 1 try: \(1\) .*{status}, 'no such thi"):
        RetryingRetriever(index, attempts=3, timeout_s=2.0).search(["smith"], 1)
    assert len(server.posts) == before + 1
    assert not index.servers[0].is_open


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_asked_again(switched, status):
    answer, server, index = switched

    def once(exchange):
        answer.bad = None
        exchange.json({"detail": "later"}, status)

    answer.bad = once
    patient = RetryingRetriever(index, attempts=2, timeout_s=2.0)
    assert len(patient.search(["smith"], 5)[0]) == 5
    assert patient.num_retries == 1


def test_retry_after_is_obeyed(switched):
    answer, server, index = switched

    def once(exchange):
        answer.bad = None
        exchange.json({"detail": "full"}, 503, {"Retry-After": "1"})

    answer.bad = once
    started = time.monotonic()
    patient = RetryingRetriever(index, attempts=2, timeout_s=2.0)
    assert len(patient.search(["smith"], 5)[0]) == 5
    assert 1.0 <= time.monotonic() - started < 2.5
    answer.bad = lambda e: e.json({}, 429, {"Retry-After": "3600"})
    with pytest.raises(SearchError, match=r"in 1 try: .*429.* again in 3600 s"):
        patient.search(["tall smith"], 5)
    with pytest.raises(BusySearchError, match="no server to ask for [56]"):
        index.search(["tall smith"], 5)


@pytest.mark.parametrize(
    "said",
    [
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 0001 00:00:00 -0000",
        "Mon, 01 Jan 2024 00:00:00 +9999999999",
        "Mon, 01 Jan 2024 00:00:00 GMT",
        "soon",
        "-1",
        "nan",
        "1e999",
    ],
)
def test_a_retry_after_that_is_no_time_to_come_is_ignored(switched, said):
    answer, _, index = switched
    answer.bad = lambda e: e.json({"detail": "full"}, 503, {"Retry-After": said})
    with pytest.raises(SearchError, match="status 503, 'full'") as error:
        index.search(["smith"], 5)
    assert not isinstance(error.value, BusySearchError)


def test_fingerprints_of_a_server_are_text(exact):
    """Half of a surrogate pair could neither be printed nor be recorded."""
    said = {"corpus": "c\udca9", "\ud800": "x"}
    with servers.serving(servers.ours(exact, said)) as [server]:
        index = opened(server.url)
    assert index.searched["fingerprints"] == {"corpus": "c\ufffd", "\ufffd": "x"}


def test_the_token_is_sent_and_never_shown(exact, monkeypatch):
    secret = "s3cret-token"
    with servers.serving(servers.ours(exact, token=secret)) as [server]:
        with pytest.raises(ValueError, match="JAXSEARCH_SEARCH_TOKEN is not set"):
            opened(server.url)
        monkeypatch.setenv("JAXSEARCH_SEARCH_TOKEN", "another")
        with pytest.raises(ValueError, match="TOKEN is another one") as error:
            opened(server.url)
        assert "another\n" not in str(error.value)
        monkeypatch.setenv("JAXSEARCH_SEARCH_TOKEN", secret)
        index = opened(server.url)
        assert len(index.search(["smith"], 3)[0]) == 3
        assert secret not in json.dumps(index.searched)

    def repeats(exchange, method, path, asked):
        sent = exchange.handler.headers["Authorization"]
        exchange.json({"detail": f"what is {sent}?"}, 500)

    with servers.serving(repeats) as [server]:
        with pytest.raises(ValueError, match=r"what is Bearer \*\*\*\?") as error:
            opened(server.url)
        assert secret not in str(error.value)
    monkeypatch.setenv("JAXSEARCH_SEARCH_TOKEN", "two\nlines")
    with pytest.raises(ValueError, match="printable ASCII characters") as error:
        opened("http://127.0.0.1:1")
    assert "lines" not in str(error.value)


def test_credentials_and_proxies_of_the_environment_are_not_used(exact, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{servers.free_port()}")
    with servers.serving(servers.ours(exact)) as [server]:
        assert len(opened(server.url).search(["smith"], 3)[0]) == 3
        assert "Authorization" not in server.headers


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://host", "as http://HOST:PORT"),
        ("http://", "as http://HOST:PORT"),
        ("http://host:0", "as http://HOST:PORT"),
        ("http://host:99999", "not an address"),
        ("http://[::1", "not an address"),
        ("http://a b", "without a query"),
        ("http://user:secret@host", "no user name and password"),
        ("http://host/?key=secret", "without a query"),
        ("http://host,http://host/", "each server is given once"),
        ("http://host,", "as http://HOST:PORT"),
        ("http://a/retrieve,http://b/queries", "several dialects"),
    ],
)
def test_malformed_addresses_are_refused(url, reason):
    with pytest.raises(ValueError, match=reason) as error:
        opened(url)
    assert "secret" not in str(error.value)


def test_a_server_that_is_not_there_is_one_line():
    port = servers.free_port()
    with pytest.raises(
        ValueError, match=rf"no search server answers: .*:{port}: canno"
    ):
        opened(f"http://127.0.0.1:{port}")
