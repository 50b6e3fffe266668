"""The open web behind `jaxsearch serve`: all dialects, and what cannot be answered."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.remote.retriever import open_remote
from jaxsearch.search.index import SearchError, SearchStoppedError, Unanswered
from jaxsearch.serve.served_index import ServedIndex
from jaxsearch.web.provider import BadQueryError, WebResult
from tests.serve.running import serving
from tests.web.stub_providers import one_page

TEXT = "The ferry to Ostrel leaves at six in the morning on every weekday of the year."
FERRY = {"id": "http://a.test/", "contents": "A\nabout ferry"}


@contextlib.contextmanager
def web_server(web):
    index = ServedIndex(retriever=web, num_workers=4, max_batch=1)
    with serving(named={"web": index}) as server:
        yield server


def client_of(server, **options):
    url = f"http://127.0.0.1:{server.port}"
    return open_remote(url, note=lambda line: None, **options)


def test_pages_are_answered_in_every_dialect(server, opened):
    page = f"<title>Ferries</title><article><p>{TEXT}</p></article>"
    url = server.add_html("/a", page)
    web = opened(lambda query: [WebResult(url=url, title="A")])
    document = {"id": url, "contents": f"Ferries\n{TEXT}"}
    with web_server(web) as served:
        assert served.ask("/search", {"query": "ferry"}).json == [document]
        body = {"query": ["ferry", " "], "return_score": True}
        assert served.ask("/batch_search", body).json == [[[document], []], [[1.0], []]]
        found = served.ask("/retrieve", {"queries": ["ferry"], "return_scores": True})
        assert found.json == {"result": [[{"document": document, "score": 1.0}]]}
        answer = served.ask("/queries", {"queries": "ferry"}).json
        assert answer["answers"] == [[f"{url}\tFerries   {TEXT}"]]
        assert served.ask("/index").json["num_passages"] is None
        metrics = served.ask("/metrics").body.decode()
        assert 'jaxsearch_retriever_count{index="web",name="web/queries"} 1' in metrics
        [[hit], []] = client_of(served).search(["ferry", ""], 3)
        assert hit.passage.id == url


def test_a_budget_that_is_used_up_stops_clients(opened):
    web = opened(one_page, snippets=True, max_queries=1)
    with web_server(web) as served:
        body = {"query": "ferry", "top_n": 1}
        assert served.ask("/search", body).json == [FERRY]
        for path, asked in (
            ("/search", {"query": "boat"}),
            ("/batch_search", {"query": ["ferry", "boat"]}),
            ("/retrieve", {"queries": ["boat"]}),
            ("/queries", {"queries": ["boat"]}),
        ):
            reply = served.ask(path, asked)
            assert reply.status == 402
            assert "1 queries (web.max_queries)" in reply.detail
        # What is in the cache is free.
        assert served.ask("/search", body).status == 200
        with pytest.raises(
            SearchStoppedError, match=r"status 402, .*1 queries \(web.*as soon as"
        ):
            client_of(served).search(["boat"], 1)


def test_queries_without_an_answer_are_named(opened):
    opened(one_page, snippets=True).search(["ferry"], 1)
    with web_server(opened(one_page, snippets=True, offline=True)) as served:
        for path, asked in (
            ("/search", {"query": "boat"}),
            ("/batch_search", {"query": ["boat", ""]}),
            ("/retrieve", {"queries": ["boat"]}),
            ("/queries", {"queries": "boat"}),
        ):
            reply = served.ask(path, asked)
            assert reply.status == 424
            assert "no query can be answered: the query 'boat' is not" in reply.detail
        queries = ["boat", "ferry", ""]
        found = served.ask("/retrieve", {"queries": queries}).json
        assert found["result"] == [[], [FERRY], []]
        assert list(found["unanswered"]) == ["0"]
        found = served.ask("/queries", {"queries": queries}).json
        assert found["answers"] == [[], ["http://a.test/\tA   about ferry"], []]
        assert "web.offline asks nobody" in found["unanswered"]["0"]
        assert served.ask("/batch_search", {"query": queries}).json == [[], [FERRY], []]
        for dialect in ("search_r1", "r1_searcher"):
            boat, ferry, blank = client_of(served, dialect=dialect).search(queries, 1)
            assert isinstance(boat, Unanswered) and "'boat' is not in" in boat.reason
            assert ferry[0].passage.id == FERRY["id"]
            assert blank == [] and not isinstance(blank, Unanswered)


def test_a_query_that_finds_nothing_is_answered(opened):
    def provider(query):
        if query.text == "boat":
            raise BadQueryError("no boats")
        return []

    with web_server(opened(provider, snippets=True)) as served:
        found = served.ask("/retrieve", {"queries": ["boat", "film"]})
    assert found.json == {"result": [[], []], "unanswered": {"0": "no boats"}}


@pytest.mark.parametrize(
    ("error", "status"), [(SearchError("down"), 503), (BadQueryError("bad"), 424)]
)
def test_a_provider_that_fails(opened, error, status):
    def failing(query):
        raise error

    with web_server(opened(failing, snippets=True)) as served:
        reply = served.ask("/search", {"query": "ferry"})
        assert reply.status == status and str(error) in reply.detail
        assert ("retry-after" in reply.headers) == (status == 503)


@contextlib.contextmanager
def started(provider, folder, *words):
    """(process, a connection to it) of `jaxsearch serve --web`."""
    command = [sys.executable, "-m", "jaxsearch", "serve", "--port", "0", "--json"]
    web = ["--web", f"net=tests.web.stub_providers:{provider}", "--web.snippets"]
    with subprocess.Popen(
        [*command, *web, "--web.cache", str(folder), *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    ) as process:
        try:
            line = process.stdout.readline()
            [port] = re.findall(
                r"^http://127.0.0.1:(\d+) serves net \(the web\)$", line
            )
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
            with contextlib.closing(connection):
                yield process, connection
        finally:
            process.kill()


def post(connection, path, body):
    sent = {"content-type": "application/json"}
    connection.request("POST", path, json.dumps(body), sent)
    reply = connection.getresponse()
    return reply.status, json.load(reply)


@pytest.mark.usefixtures("interruptible")
def test_the_command_serves_the_web(tmp_path):
    folder = tmp_path / "cache"
    with started("one_page", folder, "--web.max-queries", "1") as (process, connection):
        found = post(connection, "/net/retrieve", {"queries": ["ferry"]})
        assert found == (200, {"result": [[FERRY]]})
        assert post(connection, "/search", {"query": "boat"})[0] == 402
        connection.request("GET", "/index")
        settings = json.load(connection.getresponse())["settings"]
        assert settings["provider"] == "tests.web.stub_providers:one_page"
        assert settings["snippets"] is True and str(tmp_path) not in str(settings)
        connection.close()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and json.loads(out) == {"requests": 3}


@pytest.mark.usefixtures("interruptible")
def test_a_search_that_hangs_does_not_keep_the_server(tmp_path):
    """It is refused, and the process ends within ten seconds of SIGTERM."""
    with (
        started("hanging", tmp_path) as (process, connection),
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        waits = pool.submit(post, connection, "/search", {"query": "ferry"})
        time.sleep(0.5)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status, answer = waits.result()
        assert process.wait(60) == 0 and time.monotonic() - start < 10
    assert (status, answer["detail"]) == (503, "the server is stopping")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "nothing to serve: give --index DIR or --web PROVIDER"),
        (["--web", "serper"], "give --web.cache DIR"),
        (
            ["--web.pages", "2", "--index", "x"],
            "--web.pages is for a server with --web",
        ),
        (["--web", "serper", "--web.cache", "c", "--web.pages", "0"], "at least 1"),
        (
            ["--web", "serper", "--web.cache", "c"],
            "the environment variable SERPER_API",
        ),
        (["--web", "bing", "--web.cache", "c"], "bing"),
        (["--web", "health=serper", "--web.cache", "c"], "is no path of the server"),
        (["--web", "w=serper", "--index", "w=x", "--web.cache", "c"], "both named 'w'"),
        (
            ["--web", f"{one_page.__module__}:one_page", "--web.snippets"]
            + ["--web.cache", "file"],
            "file cannot be made (File exists); move it away",
        ),
    ],
)
def test_bad_arguments_are_one_line(arguments, error, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    assert main(["serve", "--port", "0", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxsearch serve: ") and error in line
