"""What every request passes before it reaches a path: its token and its body."""

import asyncio
import hmac
import json
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxsearch.serve.held_bytes import HeldBytes, Share
from jaxsearch.serve.limits import Limits
from jaxsearch.serve.metrics import RequestMetrics

# A body that is refused is read to its end, if that is not far, and thrown away:
# most clients do not look at an answer before they have sent everything.
_MAX_DISCARDED = 8  # times the largest body
_OPEN = "/health"  # without a token


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
        self._held = HeldBytes(limits.max_held_bytes)

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
        with self._held.share() as share:
            try:
                body = b""
                # Anyone may ask there, and no body is needed: none is read.
                if scope["path"] != _OPEN:
                    self._check_token(headers)
                    body = await self._body(headers, receive, share)
            except Refusal as refusal:
                await _refuse(refusal, send)
                return
            await self._app(scope, _replay(body, receive), send)

    def _check_token(self, headers: dict[bytes, bytes]) -> None:
        if not self._expected:
            return
        given = headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, self._expected):
            raise Refusal(
                401,
                "this server needs its token: send the header `Authorization: Bearer "
                "TOKEN`",
                **{"www-authenticate": "Bearer"},
            )

    async def _body(
        self, headers: dict[bytes, bytes], receive: Receive, share: Share
    ) -> bytes:
        """Reads the body of a request, with at most `read_s` for all of it."""
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return b""
        most = self._limits.max_body_bytes
        # h11 has checked that this is a number.
        declared = int(headers.get(b"content-length", b"0"))
        too_large = Refusal(413, f"at most {most} bytes per request")
        if declared > most * _MAX_DISCARDED:
            raise too_large
        body, num_bytes, is_kept = bytearray(), 0, declared <= most
        try:
            async with asyncio.timeout(self._limits.read_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the client left before its body was read")
                    chunk = message["body"]
                    num_bytes += len(chunk)
                    is_kept = is_kept and num_bytes <= most and share.add(len(chunk))
                    if is_kept:
                        body += chunk
                    else:
                        body.clear()
                        share.clear()
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
        if not is_kept:
            raise Refusal(
                503,
                "the requests under way are too large together; try again later",
                **{"retry-after": "1"},
            )
        return bytes(body)


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
