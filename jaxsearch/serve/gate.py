"""What every request passes before it reaches a path: its token and its body."""

import asyncio
import contextlib
import hmac
import json
import time
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxsearch.serve.limits import Limits
from jaxsearch.serve.metrics import RequestMetrics

# A body that is too large is read to its end, if that is not far, and thrown away:
# most clients do not look at an answer before they have sent everything.
_MAX_DISCARDED = 8  # times the largest body


class Refusal(Exception):
    """An answer that is given before the request is read as a whole."""

    def __init__(self, status: int, reason: str, **headers: str):
        super().__init__(reason)
        self.status = status
        self.headers = headers


class Gate:
    """Middleware that checks tokens and bounds bodies in bytes and seconds.

    Args:
      app: receives requests whose body is complete.
      token: that clients must send as `Authorization: Bearer TOKEN`; "" for none.
        `/health` is open.
      paths: endpoints that metrics tell apart.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        token: str,
        metrics: RequestMetrics,
        paths: frozenset[str],
    ):
        self._app = app
        self._limits = limits
        self._expected = f"Bearer {token}".encode() if token else b""
        self._metrics = metrics
        self._paths = paths
        self._num_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._pass(scope, receive, send_counted)
        finally:
            last = scope["path"].rpartition("/")[2]
            path = f"/{last}" if last in self._paths else "other"
            self._metrics.add(path, status, time.monotonic() - start)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        with contextlib.ExitStack() as held:
            try:
                self._check_token(scope["path"], headers)
                body = await self._body(headers, receive)
                held.enter_context(self._holding(len(body)))
            except Refusal as refusal:
                await _refuse(refusal, send)
                return
            await self._app(scope, _replay(body, receive), send)

    def _check_token(self, path: str, headers: dict[bytes, bytes]) -> None:
        if not self._expected or path == "/health":
            return
        given = headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, self._expected):
            raise Refusal(
                401,
                "this server needs its token: send the header `Authorization: Bearer "
                "TOKEN`",
                **{"www-authenticate": "Bearer"},
            )

    @contextlib.contextmanager
    def _holding(self, num_bytes: int) -> Iterator[None]:
        """Context of a request; bounds the memory of all bodies together."""
        if self._num_held + num_bytes > self._limits.max_held_bytes:
            raise Refusal(
                503,
                "the requests under way are too large together; try again later",
                **{"retry-after": "1"},
            )
        self._num_held += num_bytes
        try:
            yield
        finally:
            self._num_held -= num_bytes

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """Reads the body of a request, with at most `read_s` for all of it."""
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return b""
        most = self._limits.max_body_bytes
        # h11 has checked that this is a number.
        declared = int(headers.get(b"content-length", b"0"))
        too_large = Refusal(413, f"at most {most} bytes per request")
        if declared > most * _MAX_DISCARDED:
            raise too_large
        chunks: list[bytes] = []
        num_bytes = 0
        try:
            async with asyncio.timeout(self._limits.read_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the client left before its body was read")
                    num_bytes += len(message["body"])
                    if num_bytes <= most:
                        chunks.append(message["body"])
                    else:
                        chunks.clear()
                    if num_bytes > most * _MAX_DISCARDED:
                        raise too_large
                    if not message["more_body"]:
                        break
        except TimeoutError:
            raise Refusal(
                408, f"the body did not arrive within {self._limits.read_s:g} s"
            ) from None
        if num_bytes > most:
            raise too_large
        return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, and then what comes from the connection."""
    is_read = False

    async def replay() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(refusal: Refusal, send: Send) -> None:
    """Answers with one line, and ends the connection: its body may be unread."""
    body = json.dumps({"detail": str(refusal)}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **refusal.headers,
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send(
        {"type": "http.response.start", "status": refusal.status, "headers": raw}
    )
    await send({"type": "http.response.body", "body": body})
