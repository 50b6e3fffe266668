"""Servers that relay another one until they are told to hang or to refuse."""

import contextlib
import http.client
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Relay:
    """A server on a free port of this machine.

    Args:
      target: address of the server that it relays.

    Attributes:
      url: its own address.
    """

    def __init__(self, target: str):
        host = urllib.parse.urlsplit(target).netloc
        self._hanging, self._closed = threading.Event(), threading.Event()
        self._sockets: list[socket.socket] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if outer._hanging.is_set():
                    outer._closed.wait()
                    return
                connection = http.client.HTTPConnection(host, timeout=30)
                with contextlib.closing(connection):
                    sent = {"content-type": "application/json"} if body else {}
                    connection.request(self.command, self.path, body or None, sent)
                    reply = connection.getresponse()
                    answer = reply.read()
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *words: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def process_request(self, request, client_address) -> None:
                outer._sockets.append(request)
                super().process_request(request, client_address)

            def handle_error(self, request, client_address) -> None:
                pass  # a client that hangs up

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def hang(self) -> None:
        """Answers nothing from now on, on connections that stay open."""
        self._hanging.set()

    def close(self) -> None:
        """Refuses connections from now on, and breaks those that there are."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relaying(target: str) -> Iterator[Relay]:
    """Context of a server that relays another one."""
    relay = Relay(target)
    try:
        yield relay
    finally:
        relay.close()
