"""Servers on loopback for tests, in threads, and requests to them."""

import contextlib
import dataclasses
import http.client
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from jaxsearch.serve.address import listen
from jaxsearch.serve.app import SearchApp, create_app
from jaxsearch.serve.limits import Limits
from jaxsearch.serve.served_index import ServedIndex
from jaxsearch.serve.server import SearchServer


class TableIndex:
    """Passages with given scores for given queries, and default scores for others."""

    def __init__(
        self,
        passages: Sequence[Passage],
        scores: Mapping[str, Sequence[float]] | None = None,
    ):
        self.passages = list(passages)
        self.default = [1.0 / 2**i for i in range(len(self.passages))]
        self.scores = scores or {}

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return [self.hits(query)[:k] if query.strip() else [] for query in queries]

    def hits(self, query: str) -> list[Hit]:
        scores = self.scores.get(query, self.default)
        found = zip(self.passages, scores, strict=True)
        hits = [Hit(passage=passage, score=score) for passage, score in found]
        return sorted(hits, key=lambda hit: -hit.score)


class GatedIndex(TableIndex):
    """A table whose searches wait until the test opens it, and are recorded."""

    def __init__(self, passages: Sequence[Passage]):
        super().__init__(passages)
        self.gate = threading.Event()
        self.is_searching = threading.Event()
        self.batches: list[list[str]] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.batches.append(list(queries))
        self.is_searching.set()
        assert self.gate.wait(30)
        return super().search(queries, k)


def few_passages(num: int = 6) -> list[Passage]:
    return [Passage(id=str(i), contents=f'"Page {i}"\nText {i}.') for i in range(num)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running:
    """A server that answers, and a connection per request."""

    app: SearchApp
    server: SearchServer
    port: int

    def connect(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "",
        raw: bytes | None = None,
        **headers: str,
    ) -> "Reply":
        """Sends JSON, or raw bytes; GET without either."""
        data = json.dumps(body).encode() if body is not None else raw
        sent = {"content-type": "application/json"} if data is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(self.connect()) as connection:
            verb = method or ("GET" if data is None else "POST")
            connection.request(verb, path, data, sent)
            return Reply.of(connection.getresponse())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, response: http.client.HTTPResponse) -> "Reply":
        return cls(
            status=response.status,
            headers={name.lower(): value for name, value in response.getheaders()},
            body=response.read(),
        )

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """The one line that says what is wrong."""
        assert "\n" not in self.json["detail"]
        return self.json["detail"]


@contextlib.contextmanager
def serving(
    *indexes: Any, token: str = "", named: Mapping[str, Any] | None = None, **limits
) -> Iterator[Running]:
    """Serves retrievers, or what is a ServedIndex already, until the context ends."""
    given = named or {f"i{number}": index for number, index in enumerate(indexes)}
    served = {
        name: index if isinstance(index, ServedIndex) else ServedIndex(retriever=index)
        for name, index in given.items()
    }
    app = create_app(served, limits=Limits(**limits), token=token)
    with listen("127.0.0.1", 0) as listener:
        server = SearchServer(app, listener)
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.serve_until_stopped)
        thread.start()
        try:
            yield Running(app=app, server=server, port=port)
        finally:
            server.stop()
            thread.join(20)
            assert not thread.is_alive()
