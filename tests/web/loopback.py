"""Servers on loopback that answer what a test tells them, and count connections."""

import contextlib
import dataclasses
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A reply to send; `raw` is written instead of a reply."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    raw: bytes = b""


class Loopback:
    """A running server.

    Attributes:
      answers: answer, or function of the request, by path without the query.
      asked: the requests so far.
      num_connections: connections that were accepted so far.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[Asked], Answer]] = {}
        self.asked: list[Asked] = []
        self.num_connections = 0
        self.port = 0

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def add_html(self, path: str, body: bytes | str, **headers: str) -> str:
        """Adds a page; returns its address."""
        body = body.encode() if isinstance(body, str) else body
        headers = {"content-type": "text/html"} | headers
        self.answers[path] = Answer(body=body, headers=headers)
        return self.url(path)

    def add_json(self, path: str, value: Any, status: int = 200, **headers: str) -> str:
        """Adds a JSON reply; returns its address."""
        headers = {"content-type": "application/json"} | headers
        body = json.dumps(value).encode()
        self.answers[path] = Answer(status=status, body=body, headers=headers)
        return self.url(path)

    def paths(self) -> list[str]:
        """Paths of the requests so far, without those for robots.txt."""
        return [a.path for a in self.asked if a.path != "/robots.txt"]


@contextlib.contextmanager
def loopback(tls: Any = None) -> Iterator[Loopback]:
    """Context of a server; `tls` wraps its listening socket, if given."""
    server = Loopback()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = int(self.headers.get("content-length", 0))
            asked = Asked(
                method=self.command,
                path=self.path,
                headers={k.lower(): v for k, v in self.headers.items()},
                body=self.rfile.read(size),
            )
            server.asked.append(asked)
            found = server.answers.get(self.path.partition("?")[0], Answer(status=404))
            answer = found if isinstance(found, Answer) else found(asked)
            with contextlib.suppress(OSError):  # a client that has seen enough
                if answer.raw:
                    self.wfile.write(answer.raw)
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

        do_POST = do_GET

        def log_message(self, *words: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> Any:
            connection = super().get_request()
            server.num_connections += 1
            return connection

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that hangs up

    with Server(("127.0.0.1", 0), Handler) as listening:
        if tls is not None:
            listening.socket = tls(listening.socket)
        server.port = listening.server_port
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
