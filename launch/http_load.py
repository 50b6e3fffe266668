"""HTTP clients that put a load on a search server, for serve_load.py."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import re
import statistics
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

QUERIES_PER_BATCH = 32
K = 5
HEALTH_EVERY_S = 0.05


@dataclasses.dataclass
class Load:
    """What the clients saw."""

    statuses: Counter[int] = dataclasses.field(default_factory=Counter)
    seconds: list[float] = dataclasses.field(default_factory=list)
    health_seconds: list[float] = dataclasses.field(default_factory=list)
    num_broken: int = 0  # connections that ended without an answer
    num_without_retry_after: int = 0  # of the answers with 503


class Client:
    """One kept connection."""

    def __init__(self, url: str):
        parts = urllib.parse.urlsplit(url)
        self._address = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, path: str, body: bytes | None) -> tuple[int, bytes, bytes]:
        """Status, headers and body of an answer.

        Raises:
          OSError or EOFError: if the connection ends before the answer does.
        """
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                *self._address, limit=2**20
            )
        verb = "GET" if body is None else "POST"
        self._writer.write(
            f"{verb} {self._prefix}{path} HTTP/1.1\r\nHost: load\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body or b'')}"
            "\r\n\r\n".encode()
            + (body or b"")
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        answer = await self._reader.readexactly(length)
        if b"connection: close" in head:
            await self.close()
        return int(head[9:12]), head, answer

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._writer = None


def requests(kind: str, questions: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Paths and bodies, without end."""
    rows = itertools.cycle(questions)
    wrong = itertools.cycle(
        (
            b"nonsense",
            b'{"query": ["a list"]}',
            b'{"query": "a", "top_n": -1}',
            b'{"query": "' + b"a" * 200_000 + b'"}',
            b"[" * 20_000,
        )
    )
    while True:
        if kind == "batch":
            batch = list(itertools.islice(rows, QUERIES_PER_BATCH))
            yield "/batch_search", json.dumps({"query": batch, "top_n": K}).encode()
            continue
        yield "/search", json.dumps({"query": next(rows), "top_n": K}).encode()
        if kind == "bad":
            yield "/search", next(wrong)


async def _client(url: str, work: Iterator, load: Load, end: float) -> None:
    client = Client(url)
    for path, body in work:
        if time.monotonic() >= end:
            break
        start = time.monotonic()
        try:
            status, head, _ = await client.ask(path, body)
        except (OSError, EOFError):
            load.num_broken += 1
            await client.close()
            continue
        load.statuses[status] += 1
        load.seconds.append(time.monotonic() - start)
        load.num_without_retry_after += status == 503 and b"retry-after" not in head
    await client.close()


async def _watch_health(url: str, load: Load) -> None:
    client = Client(url)
    while True:
        start = time.monotonic()
        try:
            await client.ask("/health", None)
        except (OSError, EOFError):
            load.num_broken += 1
            return
        load.health_seconds.append(time.monotonic() - start)
        await asyncio.sleep(HEALTH_EVERY_S)


async def _process(url: str) -> dict[str, float]:
    """Memory and time of the server's process."""
    client = Client("{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url)))
    metrics = (await client.ask("/metrics", None))[2].decode()
    await client.close()
    return {
        name: float(value)
        for name, value in re.findall(r"^process_(\w+) (\S+)$", metrics, re.M)
    }


async def measured(
    url: str, work: Iterator, *, num_clients: int, seconds: float
) -> dict[str, Any]:
    """Sends requests from several connections, each after the answer to its last."""
    load = Load()
    start = time.monotonic()
    health = asyncio.create_task(_watch_health(url, load))
    async with asyncio.TaskGroup() as clients:
        for _ in range(num_clients):
            clients.create_task(_client(url, work, load, start + seconds))
    took = time.monotonic() - start
    health.cancel()
    after = await _process(url)
    if len(load.seconds) < 2 or len(load.health_seconds) < 2:
        raise ValueError(f"{url} answered {len(load.seconds)} requests in {took:.0f} s")
    cuts = statistics.quantiles(load.seconds, n=100)
    return {
        "requests_per_s": len(load.seconds) / took,
        "statuses": dict(sorted(load.statuses.items())),
        "broken": load.num_broken,
        "503_without_retry_after": load.num_without_retry_after,
        "p50_ms": cuts[49] * 1e3,
        "p99_ms": cuts[98] * 1e3,
        "max_ms": max(load.seconds) * 1e3,
        "health_max_ms": max(load.health_seconds) * 1e3,
        "server_mb": after["resident_memory_bytes"] / 1e6,
    }
