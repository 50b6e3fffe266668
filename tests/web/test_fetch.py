"""Fetching from servers that misbehave."""

import contextlib
import gzip
import random
import socket
import threading
import time

import pytest

from jaxsearch.web.addresses import any_address
from jaxsearch.web.exchange import ExchangeError, exchange
from jaxsearch.web.fetch import MAX_BYTES, Fetcher, PageError
from jaxsearch.web.turns import Turns
from tests.web.loopback import Answer
from tests.web.stub_providers import one_page

HTML = {"content-type": "text/html"}


def reason(fetcher, url):
    with pytest.raises(PageError) as refusal:
        fetcher.fetch(url)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 200
    return refusal.value.reason


def test_a_page_with_its_redirects(server, fetcher):
    server.answers["/a"] = Answer(status=301, headers={"location": "/b?c=d#e"})
    server.answers["/b"] = Answer(status=307, headers={"location": "page"})
    server.add_html("/page", "<p>hello</p>")
    page = fetcher.fetch(server.url("/a"))
    assert (page.url, page.body) == (server.url("/page"), b"<p>hello</p>")
    assert server.paths() == ["/a", "/b?c=d", "/page"]
    headers = server.asked[-1].headers
    assert headers["user-agent"] == "jaxsearch"
    assert not {"cookie", "referer", "authorization"} & headers.keys()


@pytest.mark.parametrize(("num", "is_read"), [(5, True), (6, False)])
def test_at_most_five_redirects(server, fetcher, num, is_read):
    for i in range(num):
        headers = {"location": f"/{i + 1}"}
        server.answers[f"/{i}"] = Answer(status=302, headers=headers)
    server.add_html(f"/{num}", "<p>hello</p>")
    if is_read:
        assert fetcher.fetch(server.url("/0")).body == b"<p>hello</p>"
    else:
        assert reason(fetcher, server.url("/0")) == "redirects"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(status=404, headers=HTML), "missing"),
        (Answer(status=503, headers=HTML), "status"),
        (Answer(status=204, headers=HTML), "status"),
        (Answer(status=302), "redirects"),
        (Answer(body=b"%PDF", headers={"content-type": "application/pdf"}), "type"),
        (Answer(body=b"x"), "type"),
        (Answer(body=b"x" * (MAX_BYTES + 1), headers=HTML), "too_large"),
        (Answer(body=b"x", headers=HTML | {"content-encoding": "br"}), "bad_reply"),
        (Answer(body=b"x", headers=HTML | {"content-encoding": "gzip"}), "bad_reply"),
        (
            Answer(
                body=gzip.compress(random.Random(0).randbytes(500))[:-9],
                headers=HTML | {"content-encoding": "gzip"},
            ),
            "bad_reply",
        ),
        (Answer(body=b"half", headers=HTML | {"content-length": "99"}), "bad_reply"),
        (Answer(raw=b"not http at all\r\n\r\n"), "bad_reply"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000), "bad_reply"),
        (Answer(raw=b"\0"), "bad_reply"),
    ],
)
def test_a_reply_that_is_no_page(server, fetcher, answer, expected):
    server.answers["/"] = answer
    assert reason(fetcher, server.url()) == expected


def test_a_gzip_bomb_is_not_unpacked(server, fetcher):
    """40 MB in 40 KB: unpacking stops after two megabytes."""
    bomb = gzip.compress(bytes(40_000_000), 6)
    headers = HTML | {"content-encoding": "gzip"}
    server.answers["/"] = Answer(body=bomb, headers=headers)
    assert reason(fetcher, server.url()) == "too_large"
    good = gzip.compress(b"a" * MAX_BYTES)
    server.answers["/"] = Answer(body=good, headers=headers)
    assert len(fetcher.fetch(server.url()).body) == MAX_BYTES


@pytest.mark.parametrize(
    "head", [b"HTTP", b"HTTP/1.1 200 OK\r\ncontent-type: text/html"]
)
def test_a_server_that_drips_is_left_in_time(tmp_path, head):
    """A byte every 50 ms would be enough for a time limit of each read."""
    fetcher = Fetcher(Turns(tmp_path), timeout_s=0.5, rule=any_address)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening, head))
        thread.start()
        started = time.monotonic()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        assert reason(fetcher, url) == "timeout"
        assert time.monotonic() - started < 4
        thread.join()


def drip(listening, head):
    connection, _ = listening.accept()
    with connection, contextlib.suppress(OSError):
        connection.sendall(head)
        for _ in range(200):
            time.sleep(0.05)
            connection.sendall(b"x")


def test_nobody_listens(fetcher, server):
    assert reason(fetcher, "http://127.0.0.1:9/") == "connection"


@pytest.fixture
def proxies(monkeypatch):
    """Names proxies in the environment; has none at first."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch.setenv


@pytest.mark.parametrize("scheme", ["", "http://", "HTTP://user:password@"])
def test_a_proxy_may_have_no_scheme(scheme, server, tmp_path, proxies):
    server.add_html("http://a.test/robots.txt", "")
    server.add_html("http://a.test/page", "<p>hello</p>")
    proxies("http_proxy", f"{scheme}127.0.0.1:{server.port}")
    fetcher = Fetcher(Turns(tmp_path), timeout_s=5.0, use_proxy=True)
    assert fetcher.fetch("http://a.test/page").body == b"<p>hello</p>"
    sent = server.asked[-1].headers
    assert ("proxy-authorization" in sent) == ("password" in scheme)


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy"])
@pytest.mark.parametrize(
    "proxy", ["socks5://u:secret@h:1080", "http://", "h:port", "u:secret@h:99999"]
)
def test_another_kind_of_proxy_is_refused_at_the_start(name, proxy, proxies, opened):
    proxies(name, proxy)
    opened(one_page, snippets=True)
    with pytest.raises(ValueError, match=f"variable {name} is none") as refused:
        opened(one_page, snippets=True, use_proxy=True)
    assert "secret" not in str(refused.value)
    with pytest.raises(ExchangeError, match="cannot be used") as failure:
        exchange(f"{name[:-6]}://a.test/", timeout_s=1.0, max_bytes=1, use_proxy=True)
    assert failure.value.reason == "connection"


def test_robots_are_obeyed(server, fetcher):
    rules = b"User-agent: *\nDisallow: /private\nAllow: /private/open"
    server.answers["/robots.txt"] = Answer(body=rules)
    for path in ("/private/a", "/private/open", "/public"):
        server.add_html(path, "<p>hello</p>")
    assert reason(fetcher, server.url("/private/a")) == "robots"
    server.answers["/way"] = Answer(status=302, headers={"location": "/private/a"})
    assert reason(fetcher, server.url("/way")) == "robots"
    fetcher.fetch(server.url("/private/open"))
    fetcher.fetch(server.url("/public"))
    assert server.paths() == ["/way", "/private/open", "/public"]
    assert [a.path for a in server.asked].count("/robots.txt") == 1


@pytest.mark.parametrize(
    ("status", "expected"), [(404, ""), (403, ""), (500, "robots"), (429, "robots")]
)
def test_a_server_without_robots(server, fetcher, status, expected):
    server.answers["/robots.txt"] = Answer(status=status)
    url = server.add_html("/", "<p>hello</p>")
    if expected:
        assert reason(fetcher, url) == expected
    else:
        assert fetcher.fetch(url).body == b"<p>hello</p>"


def test_a_host_gets_one_request_at_a_time_after_a_pause(server, tmp_path):
    """Two fetchers as two processes would have them, which share a folder."""
    spans, pause = [], 0.1

    def answer(asked):
        started = time.monotonic()
        time.sleep(0.03)
        spans.append((started, time.monotonic()))
        return Answer(body=b"hello", headers={"content-type": "text/plain"})

    for path in "abcd":
        server.answers[f"/{path}"] = answer
    fetchers = [
        Fetcher(Turns(tmp_path, pause), timeout_s=5.0, rule=any_address)
        for _ in range(2)
    ]
    threads = [
        threading.Thread(target=fetchers[i % 2].fetch, args=(server.url(f"/{path}"),))
        for i, path in enumerate("abcd")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans.sort()
    assert len(spans) == 4
    for (_, end), (start, _) in zip(spans, spans[1:], strict=False):
        assert start - end > pause * 0.8


def test_a_busy_host_is_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxsearch.web.fetch._TURN_WAIT_S", 0.05)
    turns = Turns(tmp_path)
    fetcher = Fetcher(turns, timeout_s=5.0, rule=any_address)
    url = server.add_html("/", "<p>hello</p>")
    with turns.turn("127.0.0.1", 1.0):
        assert reason(fetcher, url) == "host_busy"
    assert fetcher.fetch(url).body == b"<p>hello</p>"
