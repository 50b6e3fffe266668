"""Providers against a server that replays their formats."""

import json
import logging
import urllib.parse

import pytest

from jaxsearch.key_addresses import allow_keys
from jaxsearch.run.trust import trust
from jaxsearch.search.index import SearchError, SearchStoppedError
from jaxsearch.web.brave import Brave
from jaxsearch.web.google import Google
from jaxsearch.web.provider import (
    BadQueryError,
    RateLimitError,
    WebQuery,
    WebResult,
)
from jaxsearch.web.searxng import Searxng
from jaxsearch.web.serpapi import SerpApi
from jaxsearch.web.serper import Serper
from jaxsearch.web.service import key_of
from tests.web.loopback import Answer

KEYS = {
    "SERPER_API_KEY": "key-of-serper",
    "SERPAPI_API_KEY": "key-of-serpapi",
    "BRAVE_API_KEY": "key-of-brave",
    "GOOGLE_API_KEY": "key-of-google",
    "GOOGLE_CX": "engine-7",
}
CLASSES = [Serper, SerpApi, Brave, Google, Searxng]
# Replies in the format of each, with one result that has no address.
REPLIES = {
    Serper: {
        "searchParameters": {"q": "x", "type": "search"},
        "organic": [
            {"title": "A", "link": "https://a.test/", "snippet": "s  1", "position": 1},
            {"title": "no address"},
            {"title": "B", "link": "https://b.test/", "position": 2},
        ],
        "credits": 1,
    },
    SerpApi: {
        "search_metadata": {"status": "Success"},
        "organic_results": [
            {"position": 1, "title": "A", "link": "https://a.test/", "snippet": "s 1"},
            {"position": 2, "title": "B", "link": "https://b.test/", "snippet": None},
        ],
    },
    Brave: {
        "type": "search",
        "web": {
            "results": [
                {"title": "A", "url": "https://a.test/", "description": "s 1"},
                {"title": "B", "url": "https://b.test/"},
            ]
        },
    },
    Google: {
        "kind": "customsearch#search",
        "items": [
            {"title": "A", "link": "https://a.test/", "snippet": "s\n1"},
            {"title": "B", "link": "https://b.test/", "snippet": ""},
        ],
    },
    Searxng: {
        "query": "x",
        "number_of_results": 0,
        "results": [
            {"url": "https://a.test/", "title": "A", "content": "s 1", "engine": "e"},
            {"url": "https://b.test/", "title": "B"},
        ],
        "unresponsive_engines": [],
    },
}
# What each says when there is nothing to be found.
EMPTY = {
    Serper: {"organic": []},
    SerpApi: {
        "search_metadata": {"status": "Success"},
        "error": "Google hasn't returned any results for this query.",
    },
    Brave: {"type": "search", "query": {"original": "x"}},
    Google: {"kind": "customsearch#search"},
    Searxng: {"query": "x", "results": [], "unresponsive_engines": []},
}
DAILY = "Quota exceeded for quota metric 'Queries' and limit 'Queries per day'"
PER_MINUTE = "Quota exceeded for limit 'Queries per minute per user'"
FAILURES = [
    (Serper, 403, {"message": "Unauthorized.", "statusCode": 403}, "refused the key"),
    (Serper, 400, {"message": "Not enough credits"}, "quota"),
    (Serper, 429, {"message": "Too many requests"}, RateLimitError),
    (Serper, 400, {"message": "Missing query parameter"}, BadQueryError),
    (SerpApi, 401, {"error": "Invalid API key. key-of-serpapi"}, "refused the key"),
    (SerpApi, 429, {"error": "Your account has run out of searches."}, "quota"),
    (SerpApi, 429, {"error": "You exceeded the hourly throughput"}, RateLimitError),
    (SerpApi, 200, {"search_metadata": {"status": "Error"}}, SearchError),
    (Brave, 401, {"error": {"code": "SUBSCRIPTION_TOKEN_INVALID"}}, "refused the key"),
    (Brave, 429, {"error": {"code": "QUOTA_LIMITED"}}, "quota"),
    (Brave, 429, {"error": {"code": "RATE_LIMITED"}}, RateLimitError),
    # As it comes: the quota is named, and is not what is used up.
    (
        *(Brave, 429),
        {
            "type": "ErrorResponse",
            "error": {
                "status": 429,
                "code": "RATE_LIMITED",
                "detail": "Request rate limit exceeded for plan",
                "meta": {"rate_limit": 1, "quota_limit": 2000, "quota_current": 15},
            },
        },
        RateLimitError,
    ),
    (
        *(Brave, 429),
        {"error": {"code": "", "meta": {"quota_limit": 9, "quota_current": 9}}},
        "quota",
    ),
    (Brave, 422, {"error": {"code": "VALIDATION"}}, BadQueryError),
    (Google, 403, {"error": {"message": "denied"}}, "refused the key"),
    (Google, 429, {"error": {"message": DAILY}}, "quota"),
    (Google, 429, {"error": {"message": PER_MINUTE}}, RateLimitError),
    (Searxng, 403, {}, "does not allow the format json"),
    (Searxng, 429, {}, RateLimitError),
    (
        Searxng,
        200,
        {"results": [], "unresponsive_engines": [["google", "CAPTCHA"]]},
        SearchError,
    ),
]


@pytest.fixture
def keys(monkeypatch, server):
    allow_keys(server.url())
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)


def made(kind, server):
    path = "/search" if kind is Searxng else "/api"
    return kind(url=server.url("" if kind is Searxng else path)), path


@pytest.mark.parametrize("kind", CLASSES)
def test_results(kind, server, keys):
    provider, path = made(kind, server)
    server.add_json(path, REPLIES[kind])
    assert provider(WebQuery(text="who & what")) == [
        WebResult(url="https://a.test/", title="A", snippet="s 1"),
        WebResult(url="https://b.test/", title="B", snippet=""),
    ]
    server.add_json(path, EMPTY[kind])
    assert provider(WebQuery(text="who & what")) == []


def test_requests(server, keys):
    sent = {}
    for kind in CLASSES:
        provider, path = made(kind, server)
        server.add_json(path, REPLIES[kind])
        limit = "" if kind is Searxng else "2019-03-05"
        provider(WebQuery(text="who & what", date_limit=limit))
        asked = server.asked[-1]
        params = dict(urllib.parse.parse_qsl(asked.path.partition("?")[2]))
        sent[kind] = asked.headers, params or asked.json
        query = sent[kind][1]["q"]
        assert query == "who & what"
    headers, body = sent[Serper]
    assert headers["x-api-key"] == "key-of-serper"
    assert body["tbs"] == "cdr:1,cd_max:03/05/2019" and body["num"] == 10
    assert sent[SerpApi][1]["api_key"] == "key-of-serpapi"
    assert sent[SerpApi][1]["engine"] == "google"
    headers, params = sent[Brave]
    assert headers["x-subscription-token"] == "key-of-brave"
    assert params["freshness"] == "1990-01-01to2019-03-05"
    assert (params["country"], params["search_lang"]) == ("US", "en")
    headers, params = sent[Google]
    assert headers["x-goog-api-key"] == "key-of-google"
    assert params["cx"] == "engine-7" and "key" not in params
    assert params["sort"] == "date:r:19900101:20190305"
    assert sent[Searxng][1]["format"] == "json"


def test_brave_gets_as_many_words_as_it_takes(server, keys):
    server.add_json("/api", REPLIES[Brave])
    Brave(url=server.url("/api"))(WebQuery(text="word " * 60))
    params = urllib.parse.parse_qs(server.asked[-1].path.partition("?")[2])
    assert len(params["q"][0].split()) == 50


@pytest.mark.parametrize(("kind", "status", "reply", "expected"), FAILURES)
def test_failures_are_told_apart(kind, status, reply, expected, server, keys):
    provider, path = made(kind, server)
    headers = {"retry-after": "7"} if status == 429 else {}
    server.add_json(path, reply, status, **headers)
    is_stop = isinstance(expected, str)
    with pytest.raises(SearchStoppedError if is_stop else SearchError) as failure:
        provider(WebQuery(text="x"))
    if is_stop:
        assert expected in str(failure.value)
    else:
        assert type(failure.value) is expected
    if expected is RateLimitError:
        assert failure.value.retry_after_s == 7.0
    assert "key-of" not in str(failure.value)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"<html>a captcha</html>"),
        Answer(body=b"[]"),
        Answer(body=b'{"organic": 7}'),
        Answer(body=b'{"organic": [7]}'),
        Answer(body=b"[" * 100_000),
        Answer(body=b""),
        Answer(body=b"x" * 5_000_000),
        Answer(body=b"{}", headers={"content-length": "99"}),
        Answer(status=500, body=b"oops key-of-serper"),
        Answer(status=302, headers={"location": "http://elsewhere.test/"}),
        Answer(raw=b"nonsense\r\n"),
    ],
)
def test_nonsense_is_a_failed_search(answer, server, keys):
    server.answers["/api"] = answer
    with pytest.raises(SearchError) as failure:
        Serper(url=server.url("/api"))(WebQuery(text="x"))
    said = str(failure.value)
    assert said.startswith("Serper") and len(said) < 400 and "\n" not in said
    assert "key-of" not in said


@pytest.mark.parametrize("kind", [Serper, SerpApi, Brave, Google])
def test_a_key_goes_to_no_address_that_only_a_folder_names(kind, server, monkeypatch):
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    provider, path = made(kind, server)
    server.add_json(path, REPLIES[kind])
    query = WebQuery(text="x")
    with pytest.raises(ValueError, match=f"a folder names.*--trust {provider.url}"):
        provider.check(has_date_limit=False)
    with pytest.raises(SearchStoppedError, match="a folder names"):
        provider(query)
    assert not server.asked
    kind().check(has_date_limit=False)
    trust(provider.url)
    assert len(provider(query)) == 2


@pytest.mark.parametrize("kind", CLASSES)
def test_a_missing_key_is_one_line(kind, monkeypatch):
    for name in (*KEYS, "SEARXNG_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        ValueError, match=r"needs the environment variable [A-Z_]+: set"
    ):
        kind().check(has_date_limit=False)


@pytest.mark.parametrize("key", ["secret\n", " secret", "two secrets", "secret-é"])
@pytest.mark.parametrize("kind", [Serper, SerpApi, Brave, Google])
def test_a_key_that_cannot_be_sent_is_one_line(kind, key, keys, monkeypatch):
    [*_, name] = kind().variables
    monkeypatch.setenv(name, key)
    with pytest.raises(ValueError, match=f"{name} must have printable") as refused:
        kind().check(has_date_limit=False)
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_key_that_cannot_be_sent_is_in_no_error(server, keys, monkeypatch):
    """Even if it was changed after the check."""
    provider, path = made(Serper, server)
    server.add_json(path, REPLIES[Serper])
    monkeypatch.setenv("SERPER_API_KEY", "secret\n")
    with pytest.raises(SearchError, match="a header that cannot be sent") as failure:
        provider(WebQuery(text="x"))
    assert "secret" not in str(failure.value) and not server.asked
    # What is no text in ASCII is for the server to refuse.
    monkeypatch.setenv("SERPER_API_KEY", "secret-é")
    assert len(provider(WebQuery(text="x"))) == 2


def test_searxng_has_no_dates(monkeypatch):
    monkeypatch.setenv("SEARXNG_URL", "http://127.0.0.1:8080")
    Searxng().check(has_date_limit=False)
    with pytest.raises(ValueError, match="cannot limit the dates"):
        Searxng().check(has_date_limit=True)


@pytest.mark.parametrize("kind", CLASSES)
def test_no_key_is_logged_or_shown(kind, server, keys, caplog):
    caplog.set_level(logging.DEBUG)
    provider, path = made(kind, server)
    server.add_json(path, REPLIES[kind])
    request = provider.request(WebQuery(text="x"))
    provider(WebQuery(text="x"))
    shown = f"{caplog.text} {provider!r} {request!r} {key_of(provider)}"
    assert not any(key in shown for key in KEYS.values())
    assert json.dumps(REPLIES[kind])[:20] not in shown
