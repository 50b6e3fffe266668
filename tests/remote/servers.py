"""Search servers on loopback: those of three systems, and ones that misbehave."""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "conformance"
FINGERPRINTS = {"corpus": "c0ffee", "encoder": "e5e5e5"}


class SearchServer:
    """A server that answers with `answer(method, path, JSON)`, and counts requests.

    Attributes:
      url: its address.
      requests: (method, path, JSON) of each request.
      headers: headers of the last request.
      connections: client addresses, one for each connection.
    """

    def __init__(self, answer, port=0):
        self.requests, self.connections, self.headers = [], set(), {}
        self.sockets = []
        self.num_at_once = self.most_at_once = 0
        self.released = threading.Event()
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Header and body leave in one packet, which loopback does not delay.
            wbufsize = -1

            def do_GET(self):
                length = int(self.headers.get("Content-Length", 0))
                asked = json.loads(self.rfile.read(length)) if length else None
                with lock:
                    outer.requests.append((self.command, self.path, asked))
                    outer.connections.add(self.client_address)
                    outer.headers = dict(self.headers)
                    outer.num_at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer.num_at_once)
                try:
                    answer(Exchange(self, outer), self.command, self.path, asked)
                    self.wfile.flush()
                except OSError:
                    self.close_connection = True  # the client has gone
                finally:
                    with lock:
                        outer.num_at_once -= 1

            do_POST = do_GET

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def process_request(self, request, client_address):
                outer.sockets.append(request)
                super().process_request(request, client_address)

            def handle_error(self, *args):
                pass

        self.http = Server(("127.0.0.1", port), Handler)
        self.port = self.http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,)).start()

    @property
    def posts(self):
        return [one for one in self.requests if one[0] == "POST"]

    def stop(self):
        """Stops listening and breaks the connections, as when a process is killed."""
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Exchange:
    """One request; the functions of a server answer it."""

    def __init__(self, handler, server):
        self.handler, self.server = handler, server

    def json(self, value, status=200, headers=None):
        self.raw(json.dumps(value).encode(), status, headers)

    def raw(self, body, status=200, headers=None, kind="application/json", length=None):
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", kind)
        self.handler.send_header("Content-Length", str(length or len(body)))
        for name, value in (headers or {}).items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(body)
        if length:
            self.handler.close_connection = True

    def hang(self):
        self.server.released.wait(60.0)
        self.handler.close_connection = True


@contextlib.contextmanager
def serving(*answers):
    """Servers that answer with these functions, one for each."""
    servers = [SearchServer(answer) for answer in answers]
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


class Table:
    """The retriever of the recorded exchanges: scores from a table."""

    def __init__(self, recorded):
        fake = recorded["fake_retriever"]
        self.docs, self.lines = fake["docs"], fake["r1_corpus_lines"]
        self.scores, self.default = fake["query_scores"], fake["default_scores"]

    def found(self, query, k):
        """(number, score) of the best k; Faiss repeats the last document."""
        scores = self.scores.get(query, self.default)
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        pairs = [(i, scores[i]) for i in order[:k]]
        return pairs + [(len(scores) - 1, -3.4028234663852886e38)] * (k - len(pairs))


def research(table):
    """ReSearch's server, for well-formed requests."""

    def answer(exchange, method, path, asked):
        if path == "/health":
            exchange.json({"status": "healthy", "retrievers": {"total": 1}})
        elif path != "/batch_search":
            exchange.json({"detail": "Not Found"}, 404)
        else:
            found = [table.found(q, asked.get("top_n", 10)) for q in asked["query"]]
            docs = [[table.docs[i] for i, _ in pairs] for pairs in found]
            scores = [[score for _, score in pairs] for pairs in found]
            exchange.json([docs, scores] if asked.get("return_score") else docs)

    return answer


def search_r1(table, has_openapi=True):
    """Search-R1's server, for well-formed requests."""

    def answer(exchange, method, path, asked):
        if path == "/openapi.json" and has_openapi:
            exchange.json({"openapi": "3.1.0", "paths": {"/retrieve": {"post": {}}}})
        elif path != "/retrieve":
            exchange.json({"detail": "Not Found"}, 404)
        else:
            exchange.json(
                {
                    "result": [
                        [
                            {"document": table.docs[i], "score": score}
                            for i, score in table.found(q, asked.get("topk") or 3)
                        ]
                        for q in asked["queries"]
                    ]
                }
            )

    return answer


def r1_searcher(table):
    """R1-Searcher's server (Flask), for well-formed requests."""

    def answer(exchange, method, path, asked):
        if path != "/queries":
            page = b"<!doctype html>\n<title>404 Not Found</title>"
            exchange.raw(page, 404, kind="text/html; charset=utf-8")
            return
        answers = [
            [table.lines[i] for i, _ in table.found(q, asked.get("k", 3))]
            for q in asked["queries"]
        ]
        exchange.json({"answers": answers, "queries": asked["queries"]})

    return answer


def ours(index, fingerprints=FINGERPRINTS, name="train", token=""):
    """A server of jaxsearch with this index."""

    def answer(exchange, method, path, asked):
        sent = exchange.handler.headers.get("Authorization", "")
        if token and sent != f"Bearer {token}":
            exchange.json({"detail": f"wrong token {sent}"}, 401)
        elif path == "/index":
            exchange.json(
                {
                    "server": "jaxsearch",
                    "version": "0",
                    "name": name,
                    "names": [name],
                    "num_passages": 600,
                    "fingerprints": fingerprints,
                    "settings": {},
                    "dialects": ["search_r1", "research", "r1_searcher"],
                }
            )
        elif path == "/retrieve":
            exchange.json(result_of(index, asked))
        else:
            exchange.json({"detail": "Not Found"}, 404)

    return answer


def result_of(index, asked):
    """Answers to /retrieve from a real index."""
    found = index.search(asked["queries"], asked["topk"])
    return {
        "result": [
            [
                {
                    "document": {"id": h.passage.id, "contents": h.passage.contents},
                    "score": h.score,
                }
                for h in hits
            ]
            for hits in found
        ]
    }


def slowly(answer, seconds):
    """The same answers, later."""

    def later(exchange, *request):
        time.sleep(seconds)
        answer(exchange, *request)

    return later


def free_port():
    """A port on which nothing listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    return server.server_port
