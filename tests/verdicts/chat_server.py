"""A chat endpoint on loopback that replies what a test tells it."""

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """A reply to send."""

    text: str = ""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        if self.status != 200:
            return self.text.encode()
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        message = {"role": "assistant", "content": self.text}
        return json.dumps({"choices": [{"message": message}], "usage": usage}).encode()


class ChatServer:
    """A running server.

    Attributes:
      answer: the reply to each request, by its message.
      requests: bodies of the requests so far.
      keys: their Authorization headers.
    """

    def __init__(self, answer: Callable[[str], Answer]):
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = ""


def question_in(message: str) -> str:
    """The question that a message of the package's prompt is about."""
    found = re.search("^Question: (.*)$", message, re.MULTILINE)
    assert found is not None
    return json.loads(found[1])


def verdict(name: str, reason: str = "as told") -> Answer:
    return Answer(json.dumps({"reason": reason, "verdict": name}))


@contextlib.contextmanager
def chat_server(answer: Callable[[str], Answer]) -> Iterator[ChatServer]:
    """Context of a server that keeps connections, as real ones do."""
    server = ChatServer(answer)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Otherwise the last part of a reply waits 40 ms for an acknowledgement.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            request = json.loads(self.rfile.read(size))
            assert self.path == "/v1/chat/completions"
            server.requests.append(request)
            server.keys.append(self.headers["authorization"])
            reply = server.answer(request["messages"][-1]["content"])
            self.send_response(reply.status)
            self.send_header("content-length", str(len(reply.body)))
            for name, value in reply.headers:
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(reply.body)

        def log_message(self, *words: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that hangs up

    with Server(("127.0.0.1", 0), Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_port}/v1"
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
