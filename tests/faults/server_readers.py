"""Answers of servers: of search in each dialect, of the web's services, and pages."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxsearch.remote.connection import Connection
from jaxsearch.remote.detection import answers, describe
from jaxsearch.remote.dialects import R1_SEARCHER, RESEARCH, SEARCH_R1, Dialect
from jaxsearch.search.index import SearchError, SearchStoppedError
from jaxsearch.web.brave import BRAVE
from jaxsearch.web.cache import WebCache, connected
from jaxsearch.web.fetch import PageError
from jaxsearch.web.google import GOOGLE
from jaxsearch.web.robots import parse_robots
from jaxsearch.web.searxng import SEARXNG
from jaxsearch.web.serpapi import SERPAPI
from jaxsearch.web.serper import SERPER
from jaxsearch.web.service import SearchService
from jaxsearch.web.summary import _summary
from tests.faults.reader_files import Reader, write_json
from tests.remote.servers import serving

QUERIES = ["capital of France", "x"]
DOCUMENT = {"id": 3, "contents": '"Paris"\nParis is a city.'}
TITLED = {"id": "4", "title": "Bern", "text": "Bern is a city."}
ANSWERS: dict[str, tuple[Dialect, Any]] = {
    "search_r1": (
        SEARCH_R1,
        {
            "result": [
                [
                    {"document": DOCUMENT, "score": 1.5},
                    {"document": TITLED, "score": 1},
                ],
                [],
            ],
            "unanswered": {"1": "no page"},
        },
    ),
    "research": (RESEARCH, [[[DOCUMENT], [TITLED]], [[0.5], [0.1]]]),
    "r1_searcher": (R1_SEARCHER, {"answers": [["1\tBern   is a city"], ["no tab"]]}),
}
INDEX = {
    "server": "jaxsearch",
    "name": "train",
    "num_passages": 600,
    "fingerprints": {"corpus": "c0ffee"},
}
OPENAPI = {"openapi": "3.1.0", "paths": {"/retrieve": {"post": {}}}}


@contextlib.contextmanager
def search_readers(root: Path) -> Iterator[dict[str, Reader]]:
    """Readers of a real server on loopback that answers with the files."""
    served: dict[str, Path] = {}

    def answer(exchange, method, path, asked):
        if path in served:
            exchange.raw(served[path].read_bytes(), status[0])
        else:
            exchange.json({"detail": "Not Found"}, 404)

    status = [200]
    refusals = (SearchError, SearchStoppedError, ValueError)
    with serving(answer) as [server]:
        connection = Connection(server.url, token="", connect_timeout_s=5.0)
        readers = {}
        for name, (dialect, value) in ANSWERS.items():
            path = write_json(root / f"{name}.json", value)

            def read(dialect=dialect, path=path):
                served.clear()
                served[dialect.path] = path
                for hits in answers(connection, dialect, QUERIES, 3, 20.0):
                    [(hit.passage.id + hit.passage.contents).encode() for hit in hits]

            readers[f"server {name}"] = Reader(read, [path], refusals)
        index = write_json(root / "index.json", INDEX)
        openapi = write_json(root / "openapi.json", OPENAPI)

        def detect():
            served.clear()
            served["/index"] = index
            str(describe(connection, "auto", 20.0).text).encode()
            served.clear()
            served["/openapi.json"] = served["/health"] = openapi
            with contextlib.suppress(*refusals):
                describe(connection, "auto", 20.0)

        detail = write_json(root / "detail.json", {"detail": "too long"})

        def failing():
            served.clear()
            served["/retrieve"] = detail
            status[0] = 422
            with contextlib.suppress(SearchError):
                answers(connection, SEARCH_R1, QUERIES, 3, 20.0)
            status[0] = 200

        yield readers | {
            "server detection": Reader(detect, [index, openapi], refusals),
            "server error": Reader(failing, [detail], refusals),
        }


ROW = {"link": "http://a/", "title": "A", "snippet": "b"}
REPLIES: dict[str, tuple[SearchService, Any]] = {
    "serper": (SERPER, {"organic": [ROW]}),
    "serpapi": (
        SERPAPI,
        {
            "search_metadata": {"status": "Success"},
            "organic_results": [ROW],
        },
    ),
    "brave": (
        BRAVE,
        {"web": {"results": [{"url": "http://a/", "title": "A", "description": "b"}]}},
    ),
    "searxng": (
        SEARXNG,
        {"results": [{"url": "http://a/", "title": "A", "content": "b"}]},
    ),
    "google": (GOOGLE, {"items": [ROW]}),
}
COMPLETION = {"choices": [{"message": {"content": "<think>a</think>A summary."}}]}
ROBOTS = "User-agent: *\nDisallow: /a*b$\nAllow: /a/b\n\nUser-agent: x\nAllow: /\n"


@contextlib.contextmanager
def web_readers(root: Path) -> Iterator[dict[str, Reader]]:
    """Readers of the web's services, which ask a real server on loopback."""
    import dataclasses

    from jaxsearch import key_addresses
    from jaxsearch.web.provider import WebQuery

    served: list[Path] = []
    status = [200]

    def answer(exchange, method, path, asked):
        exchange.raw(served[-1].read_bytes(), status[0])

    query = WebQuery(text="a", date_limit="", timeout_s=20.0, use_proxy=False)
    refusals = (SearchError, SearchStoppedError)
    names = ("SERPER_API_KEY", "SERPAPI_API_KEY", "BRAVE_API_KEY")
    names += ("GOOGLE_API_KEY", "GOOGLE_CX")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "key"))
    with serving(answer) as [server]:
        key_addresses.allow_keys(server.url)
        readers = {}
        for name, (service, value) in REPLIES.items():
            path = write_json(root / f"{name}.json", value)
            here = dataclasses.replace(service, url=server.url)

            def read(here=here, path=path):
                served.append(path)
                status[0] = 200
                results = here(query)
                [(one.url, one.title.encode, one.snippet.encode) for one in results]
                return None

            def failing(here=here, path=path):
                served.append(path)
                status[0] = 429
                with contextlib.suppress(*refusals):
                    here(query)

            readers[f"web {name}"] = Reader(read, [path], refusals)
            readers[f"web {name} error"] = Reader(failing, [path], refusals)
        yield readers | _other_readers(root)
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def _other_readers(root: Path) -> dict[str, Reader]:
    completion = write_json(root / "completion.json", COMPLETION)
    robots = root / "robots.txt"
    robots.write_text(ROBOTS)
    cache = WebCache(root / "cache")
    stored = write_json(
        root / "stored.json", {"results": [["http://a/", "A", "b"]], "summary": "s"}
    )

    def read_cache():
        value = stored.read_bytes()
        with connected(cache.path) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO kept (kind, key, value) VALUES (?, ?, ?)",
                ("results", "k", value),
            )
        with contextlib.suppress(SearchError):
            cache.get("results", "k")

    def read_robots():
        text = robots.read_bytes().decode(errors="replace")
        parse_robots(text, "jaxsearch").allows("/a/" + "b" * 500)

    return {
        "web summary": Reader(
            lambda: _summary(completion.read_bytes().decode(errors="replace"), "x"),
            [completion],
            (PageError,),
        ),
        "web robots": Reader(read_robots, [robots], ()),
        "web cache": Reader(read_cache, [stored]),
    }
