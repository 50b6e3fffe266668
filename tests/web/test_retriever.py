"""The retriever of the open web: pages, summaries, cache, budget."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxsearch.key_addresses import allow_keys
from jaxsearch.search.index import (
    Retriever,
    SearchError,
    SearchStoppedError,
    Unanswered,
)
from jaxsearch.web.addresses import is_public
from jaxsearch.web.cache import connected
from jaxsearch.web.config import WebConfig
from jaxsearch.web.provider import (
    BadQueryError,
    RateLimitError,
    WebQuery,
    WebResult,
)
from jaxsearch.web.serper import Serper
from jaxsearch.web.service import key_of
from jaxsearch.web.spending import Spending
from tests.web.loopback import Answer
from tests.web.stub_providers import broken, one_page

TEXT = "The ferry to Ostrel leaves at six in the morning on every weekday of the year."


def page(title, text=TEXT):
    return f"<title>{title}</title><article><p>{text}</p></article>"


class Found:
    """A provider with the same results for every query; it counts the queries."""

    def __init__(self, *urls, failures=()):
        self.urls, self.failures, self.asked = urls, list(failures), []
        self.lock = threading.Lock()

    def __call__(self, query: WebQuery):
        with self.lock:
            self.asked.append(query)
            if self.failures:
                raise self.failures.pop(0)
        return [WebResult(url=u, title=f"T{i}") for i, u in enumerate(self.urls)]


def contents(hits):
    return [hit.passage.contents for hit in hits]


def test_pages_become_passages(server, opened):
    urls = [server.add_html(f"/{i}", page(f"Page {i}")) for i in range(5)]
    web = opened(Found(urls[0], *urls))
    assert isinstance(web, Retriever)
    [two, one, none] = [web.search(["ferry"], k)[0] for k in (2, 1, 0)]
    assert contents(two) == [f"Page {i}\n{TEXT}" for i in range(2)]
    assert [hit.passage.id for hit in two] == urls[:2] and two[0].score > two[1].score
    assert contents(one) == contents(two)[:1] and none == []
    # No more pages than web.pages, whatever k is.
    assert len(web.search(["ferry"], 9)[0]) == 3
    counts = web.search_counts()
    assert counts["web/queries"] == 1 and counts["web/queries_cached"] == 2
    assert counts["web/pages_fetched"] == 3 and counts["web/pages_cached"] == 3


def test_a_result_that_comes_again_keeps_its_first_place(opened):
    urls = [f"http://{name}.test/" for name in "abcd"]
    web = opened(Found(*urls, urls[0], urls[2]), snippets=True)
    [hits] = web.search(["ferry"], 9)
    assert [hit.passage.id for hit in hits] == urls
    # With the title of its first place too.
    assert hits[0].passage.title == "T0"


@pytest.mark.parametrize("snippets", [True, False])
def test_an_address_that_is_no_text_is_left_out(server, opened, snippets):
    url = server.add_html("/a", page("A"))
    web = opened(Found("http://\ud800.test/", url, "\udfff"), snippets=snippets)
    # From the provider, and from the cache.
    for _ in range(2):
        [good, [other]] = web.search(["ferry", "boat"], 3)
        assert [hit.passage.id for hit in good] == [other.passage.id] == [url]
    counts = web.search_counts()
    assert counts["web/queries"] == counts["web/queries_cached"] == 2


def test_queries_are_answered_in_order(opened):
    web = opened(one_page, snippets=True)
    queries = [f"query {i}" for i in range(20)] + ["", " \n"]
    answers = web.search(queries, 1)
    expected = [[f"A\nabout query {i}"] for i in range(20)] + [[], []]
    assert [contents(hits) for hits in answers] == expected
    assert web.search([], 1) == []
    assert web.search_counts()["web/queries"] == 20


def test_site_date_and_odd_queries(opened):
    provider = Found("http://a.test/")
    web = opened(
        provider, snippets=True, site="en.wikipedia.org", date_limit="2018-12-20"
    )
    web.search(["two\nlines \ud800 \x00" + "x" * 1_000_000], 1)
    [query] = provider.asked
    assert query.text.startswith("two lines x") and len(query.text) < 450
    assert query.text.endswith(" site:en.wikipedia.org")
    assert query.date_limit == "2018-12-20"


def test_the_cache_has_a_key_for_provider_query_and_date(opened):
    first, second = Found("http://a.test/"), Found("http://b.test/")
    opened(first, snippets=True).search(["a"], 1)
    opened(first, snippets=True).search(["a"], 1)
    opened(first, snippets=True, date_limit="2018-12-20").search(["a"], 1)
    opened(first, snippets=True, site="b.test").search(["a"], 1)
    assert len(first.asked) == 3
    # The same class, but a provider that is a function has a name of its own.
    opened(one_page, snippets=True).search(["a"], 1)
    assert second.asked == []


def test_offline_answers_from_the_cache_alone(server, opened):
    server.add_json("/v1/chat/completions", completion("A summary."))
    urls = [server.add_html("/a", page("A")), server.url("/missing")]
    fields = {"summary_url": server.url("/v1"), "summary_model": "m"}
    provider = Found(*urls)
    online = opened(provider, **fields).search(["ferry"], 2)
    num_asked = len(server.asked)
    web = opened(provider, offline=True, **fields)
    assert web.search(["ferry"], 2) == online
    assert contents(online[0]) == ["A\nA summary."]
    [unknown] = web.search(["boat"], 2)
    assert isinstance(unknown, Unanswered) and "not in the cache" in unknown.reason
    assert len(provider.asked) == 1 and len(server.asked) == num_asked
    assert web.search_counts()["web/queries_failed"] == 1


def test_failures_of_pages_are_counted_and_kept(server, opened):
    urls = [server.url("/missing"), server.add_html("/empty", "<p> </p>")]
    good = server.add_html("/good", page("Good"))
    web = opened(Found(*urls, good))
    assert contents(web.search(["a"], 2)[0]) == [f"Good\n{TEXT}"]
    num_asked = len(server.asked)
    web.search(["b"], 2)
    assert len(server.asked) == num_asked
    counts = web.search_counts()
    assert counts["web/pages_failed/missing"] == 2
    assert counts["web/pages_failed/no_text"] == 2


def test_a_query_without_a_readable_page_is_a_failed_search(server, opened):
    urls = [server.url("/missing"), "http://169.254.169.254/latest/meta-data/"]
    web = opened(Found(*urls), rule=lambda address: address.is_loopback)
    [answer] = web.search(["a"], 2)
    assert answer == [] and isinstance(answer, Unanswered)
    assert answer.reason.startswith("no page could be read: http://127.0.0.1")
    assert "a private address" in answer.reason and "\n" not in answer.reason
    assert web.search_counts()["web/pages_failed/forbidden"] == 1


def test_users_cannot_fetch_from_loopback(server, opened):
    url = server.add_html("/a", page("A"))
    [answer] = opened(Found(url), rule=is_public).search(["a"], 1)
    assert isinstance(answer, Unanswered) and server.num_connections == 0


def completion(content):
    return {"choices": [{"message": {"role": "assistant", "content": content}}]}


def test_summaries(server, opened, monkeypatch):
    monkeypatch.setenv("WEB_SUMMARY_API_KEY", "secret")
    allow_keys(server.url())
    answers = ["<think>so</think>\n It leaves\x00 at six. ", "NOTHING", "Later."]
    server.answers["/v1/chat/completions"] = lambda asked: Answer(
        body=json.dumps(completion(answers.pop(0))).encode()
    )
    urls = [server.add_html(f"/{i}", page(f"P{i}", TEXT + str(i))) for i in range(3)]
    web = opened(Found(*urls), summary_url=server.url("/v1/"), summary_model="m")
    [hits] = web.search(["when does it leave?"], 2)
    assert contents(hits) == ["P0\nIt leaves at six.", "P2\nLater."]
    asked = [a for a in server.asked if a.method == "POST"]
    assert asked[0].headers["authorization"] == "Bearer secret"
    body = asked[0].json
    assert body["model"] == "m" and "when does it leave?" in str(body["messages"])
    assert TEXT in body["messages"][-1]["content"]


@pytest.mark.parametrize(
    "reply",
    [
        Answer(body=b"<html>nonsense</html>"),
        Answer(body=b"{}"),
        Answer(body=b"[1, 2]"),
        Answer(body=json.dumps(completion(None)).encode()),
        Answer(body=json.dumps(completion("  ")).encode()),
        Answer(body=json.dumps({"choices": []}).encode()),
        Answer(status=400, body=b"no such model, secret"),
        Answer(body=b"x" * 2_000_000),
        Answer(raw=b"nonsense\r\n"),
    ],
)
def test_nonsense_of_the_summary_endpoint(server, opened, monkeypatch, reply):
    monkeypatch.setenv("WEB_SUMMARY_API_KEY", "secret")
    allow_keys(server.url())
    server.answers["/chat/completions"] = reply
    url = server.add_html("/a", page("A"))
    web = opened(Found(url), summary_url=server.url(""), summary_model="m")
    [answer] = web.search(["a"], 1)
    assert isinstance(answer, Unanswered) and "the" in answer.reason
    assert "\n" not in answer.reason and "secret" not in answer.reason
    assert web.search_counts()["web/pages_failed/summary"] == 1


def test_a_summary_key_that_cannot_be_sent_is_one_line(opened, monkeypatch):
    monkeypatch.setenv("WEB_SUMMARY_API_KEY", "secret\n")
    fields = {"summary_url": "http://a.test/", "summary_model": "m"}
    with pytest.raises(ValueError, match="WEB_SUMMARY_API_KEY must have") as refused:
        opened(one_page, **fields)
    assert "secret" not in str(refused.value)
    opened(one_page, offline=True, **fields)


def test_a_summary_endpoint_that_a_folder_names_gets_no_key(
    server, opened, monkeypatch
):
    monkeypatch.setenv("WEB_SUMMARY_API_KEY", "secret")
    server.add_json("/chat/completions", {"error": "who are you?"}, 401)
    url = server.add_html("/a", page("A"))
    web = opened(Found(url), summary_url=server.url(""), summary_model="m")
    with pytest.raises(SearchStoppedError, match=f"--trust {server.url('')}"):
        web.search(["a"], 1)
    [asked] = [one for one in server.asked if one.method == "POST"]
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, SearchStoppedError), (429, SearchError), (503, SearchError)],
)
def test_a_summary_endpoint_that_refuses(server, opened, status, expected):
    server.add_json("/chat/completions", {"error": "x"}, status)
    url = server.add_html("/a", page("A"))
    web = opened(Found(url), summary_url=server.url(""), summary_model="m")
    with pytest.raises(expected, match="the summary endpoint"):
        web.search(["a"], 1)


def test_a_rate_limit_is_waited_for(opened):
    provider = Found("http://a.test/", failures=[RateLimitError("slow down", 0.0)] * 2)
    web = opened(provider, snippets=True, max_queries=1)
    assert len(web.search(["a"], 1)[0]) == 1
    counts = web.search_counts()
    assert counts["web/rate_limited"] == 2 and counts["web/queries"] == 1
    provider = Found(failures=[RateLimitError("come back tomorrow", 86_400.0)])
    with pytest.raises(SearchError, match="tomorrow"):
        opened(provider, snippets=True).search(["b"], 1)


def test_a_refused_query_does_not_fail_the_others(opened):
    def some(query):
        if query.text == "bad":
            raise BadQueryError("the provider refuses it")
        return one_page(query)

    web = opened(some, snippets=True)
    good, bad = web.search(["good", "bad"], 1)
    assert len(good) == 1 and bad.reason == "the provider refuses it"


def test_a_provider_of_another_kind(opened):
    with pytest.raises(SearchStoppedError, match="must return a list of .*WebResult"):
        opened(broken, snippets=True).search(["a"], 1)


def test_results_are_text(opened):
    """A dictionary of a service has null where it knows nothing."""

    def untitled(query):
        result = WebResult(url="http://a.test/")
        # Tests check types when an object is made; users' programs do not.
        object.__setattr__(result, "title", None)
        return [result]

    with pytest.raises(SearchStoppedError, match="whose fields are text, got WebRes"):
        opened(untitled, snippets=True).search(["a"], 1)


def test_an_answer_is_used_if_it_cannot_be_kept(opened, tmp_path):
    """It was paid for."""
    provider = Found("http://a.test/")
    web = opened(provider, snippets=True)
    with connected(tmp_path / "web/cache.sqlite") as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON kept "
            "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
    assert [len(hits) for hits in web.search(["a"], 1)] == [1]
    assert web.search_counts()["web/cache_failures"] == 1


def test_the_budget_of_queries(opened):
    web = opened(one_page, snippets=True, max_queries=3)
    with pytest.raises(SearchStoppedError) as stopped:
        web.search([f"q{i}" for i in range(20)], 1)
    assert str(stopped.value) == (
        "the budget of web searches is used up: 3 queries (web.max_queries); the same "
        "command with a larger --web.max-queries continues"
    )
    assert web.search_counts()["web/queries"] == 3
    # What was asked is in the cache, and another process counts on.
    more = opened(one_page, snippets=True, max_queries=5)
    answered = 0
    for number in range(20):
        with contextlib.suppress(SearchStoppedError):
            answered += len(more.search([f"q{number}"], 1)[0])
    assert answered == 5


def test_the_budget_of_money(opened):
    web = opened(one_page, snippets=True, max_usd=0.003, usd_per_query=0.001)
    with pytest.raises(SearchStoppedError, match="0.003 US dollars"):
        web.search([f"q{i}" for i in range(9)], 1)
    assert web.search_counts()["web/usd"] == pytest.approx(0.003)


def test_a_query_without_an_answer_costs_nothing(opened, tmp_path):
    # The last three are no failures that a provider should have.
    kinds = (SearchError, OSError, SearchStoppedError, KeyError, ValueError, SystemExit)
    provider = Found("http://a.test/", failures=[kind("down") for kind in kinds])
    web = opened(provider, snippets=True, max_queries=1)
    for kind in kinds:
        with pytest.raises(kind, match="down"):
            web.search(["a"], 1)
    assert len(web.search(["a"], 1)[0]) == 1


def test_equal_queries_of_many_threads_are_asked_once(opened, tmp_path):
    provider = Found("http://a.test/")
    webs = [opened(provider, snippets=True) for _ in range(2)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(webs[i % 2].search, ["a"], 1) for i in range(16)]
        assert all(len(call.result()[0]) == 1 for call in calls)
    assert len(provider.asked) == 1


def test_processes_share_a_budget(tmp_path):
    path = tmp_path / "spent.sqlite"
    Spending(path=path, usd_per_query=0.1)
    program = (
        "import sys, pathlib; from jaxsearch.web.spending import Spending\n"
        "spending = Spending(path=pathlib.Path(sys.argv[1]), usd_per_query=0.1)\n"
        "for _ in range(100): spending.reserve()\n"
    )
    words = [sys.executable, "-c", program, str(path)]
    running = [subprocess.Popen(words) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert Spending(path=path, usd_per_query=0.1).spent() == (200, 20.0)


def test_a_damaged_cache_is_one_line(tmp_path, opened):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "cache.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(ValueError, match="expected a web cache, got .*--web.cache"):
        opened(one_page, cache=str(folder))


def test_a_damaged_count_of_the_budget_is_one_line(tmp_path, opened):
    path = tmp_path / "web" / "spent.sqlite"
    path.parent.mkdir()
    said = "expected the count of a web budget, got .*the count begins again"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(ValueError, match=said):
        opened(one_page, snippets=True)
    path.unlink()
    with connected(path) as connection:
        connection.execute("CREATE TABLE spent (another TEXT)")
    with pytest.raises(ValueError, match=said):
        opened(one_page, snippets=True)


def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path, opened):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(ValueError, match=f"{folder} cannot be made .*--web.cache"):
            opened(one_page, snippets=True, folder=folder)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "turns").touch()
    with pytest.raises(ValueError, match="turns/queries cannot be made"):
        opened(one_page, snippets=True, cache=str(tmp_path / "kept"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pages": 0}, "web.pages must be at least 1"),
        ({"max_queries": -1}, "web.max_queries must be 0 or more"),
        ({"timeout_s": float("nan")}, "web.timeout_s must be positive"),
        ({"date_limit": "yesterday"}, "web.date_limit must be a day"),
        ({"site": "a b"}, "web.site must be a site"),
        ({"summary_url": "http://a.test/"}, "belong together"),
        ({"summary_url": "a.test", "summary_model": "m"}, "must be an address"),
        (
            {"summary_url": "http://u:secret@a.test/", "summary_model": "m"},
            "must hold no key",
        ),
        (
            {"summary_url": "http://a", "summary_model": "m", "snippets": True},
            "nothing to summarize",
        ),
    ],
)
def test_settings_are_checked(fields, message):
    with pytest.raises(ValueError, match=message) as refused:
        WebConfig(**fields)
    assert "secret" not in str(refused.value)


def test_a_budget_needs_a_price(opened):
    with pytest.raises(ValueError, match="web.max_usd needs the price"):
        opened(one_page, snippets=True, max_usd=1.0)


def test_a_service_is_asked_for_pages(server, opened, monkeypatch):
    """All of it: the format of Serper, a page, and the price in its list."""
    monkeypatch.setenv("SERPER_API_KEY", "secret")
    url = server.add_html("/a", page("A"))
    server.add_json("/search", {"organic": [{"link": url, "title": "A"}]})
    allow_keys(server.url())
    web = opened(Serper(url=server.url("/search")))
    assert contents(web.search(["ferry"], 1)[0]) == [f"A\n{TEXT}"]
    assert web.search_counts()["web/usd"] == pytest.approx(0.001)
    kept = b"".join(
        p.read_bytes() for p in Path(web._cache.path).parent.rglob("*.sqlite*")
    )
    assert b"ferry" in kept and b"secret" not in kept


def test_what_identifies_a_provider():
    assert key_of(dataclasses.replace(Serper(), url="http://b/")) == key_of(Serper())
    assert key_of(Serper(country="de")) != key_of(Serper())
    partials = [functools.partial(one_page, depth=depth) for depth in (1, 2)]
    assert len({key_of(provider) for provider in (*partials, one_page)}) == 3
