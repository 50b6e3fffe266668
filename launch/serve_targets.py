"""The targets of one server, each with what was measured; for serve_load.py."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from http_load import QUERIES_PER_BATCH, K, measured, requests

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A target, what was measured, and whether it is met."""

    target: str
    found: str
    is_met: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What the measurements share.

    Attributes:
      large: folder of the index of all passages.
      small: folder of the quickstart's index.
      asked: questions about the large index.
      small_asked: queries of the small index.
      seconds: length of a measurement.
      num_requests: requests of the measurement of memory.
    """

    large: Path
    small: Path
    asked: Sequence[str]
    small_asked: Sequence[str]
    seconds: float
    num_requests: int


@contextlib.contextmanager
def server(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """(process, address) of `jaxsearch serve` on a free port."""
    command = [sys.executable, "-P", "-m", "jaxsearch", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--index", f"wiki={folder}", *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield process, process.stdout.readline().split()[0]
        finally:
            process.kill()


def load(url: str, kind: str, questions: Sequence[str], clients: int, seconds: float):
    """What clients saw that sent requests of one kind for some seconds."""
    work = requests(kind, questions)
    return asyncio.run(measured(url, work, num_clients=clients, seconds=seconds))


def is_clean(seen: dict[str, Any]) -> bool:
    """Whether every request was answered with 200."""
    return list(seen["statuses"]) == [200] and not seen["broken"]


def batches(setup: Setup) -> Iterator[Row]:
    in_process = queries_per_s(setup.large, setup.asked, setup.seconds / 2)
    with server(setup.large) as (_, url):
        seen = load(url, "batch", setup.asked, 8, setup.seconds)
    rate = seen["requests_per_s"] * QUERIES_PER_BATCH
    yield Row(
        target=f"/batch_search of {QUERIES_PER_BATCH}, 8 connections, 81,345 passages: "
        "no error, at least 0.7 of the queries/s in process",
        found=f"{rate:.0f} of {in_process:.0f} queries/s ({rate / in_process:.2f}), "
        f"{errors(seen)}",
        is_met=is_clean(seen) and rate >= 0.7 * in_process,
    )


def single_queries(setup: Setup) -> Iterator[Row]:
    with server(setup.small) as (_, url):
        seen = load(url, "single", setup.small_asked, 64, setup.seconds)
    is_even = seen["p99_ms"] <= 10 * seen["p50_ms"]
    yield Row(
        target="/search, 64 connections, the quickstart's index: no error, at least "
        "300 requests/s, p99 at most 10 x p50",
        found=f"{latencies(seen)}, {errors(seen)}",
        is_met=is_clean(seen) and seen["requests_per_s"] >= 300 and is_even,
    )


def large_index(setup: Setup) -> Iterator[Row]:
    with server(setup.large) as (process, url):
        seen = load(url, "single", setup.asked, 64, setup.seconds)
        yield Row(
            target="/search, 64 connections, 81,345 passages: no error, /health within "
            "100 ms throughout",
            found=f"{latencies(seen)}, {health(seen)}, {errors(seen)}",
            is_met=is_clean(seen) and seen["health_max_ms"] <= 100,
        )
        yield stopping(process, url, setup)
    options = ("--max-queries", "32", "--max-waiting", "64")
    with server(setup.large, *options) as (_, url):
        seen = load(url, "batch", setup.asked, 64, setup.seconds / 4)
    statuses, without = seen["statuses"], seen["503_without_retry_after"]
    yield Row(
        target="a full queue: 503 with Retry-After and no hang, /health within 100 ms",
        found=f"statuses {statuses}, {without} without Retry-After, {health(seen)}, "
        f"longest {seen['max_ms']:.0f} ms",
        is_met=set(statuses) == {200, 503}
        and not (without or seen["broken"])
        and seen["health_max_ms"] <= 100,
    )


def stopping(process: subprocess.Popen, url: str, setup: Setup) -> Row:
    """SIGTERM while all clients wait for an answer."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(load, url, "single", setup.asked, 64, 3.0)
        time.sleep(1.5)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status = process.wait()
        took = time.monotonic() - start
        # Its connections were closed.
        waiting.exception()
    return Row(
        target="SIGTERM with 64 requests under way: exit 0 within 10 s",
        found=f"status {status} after {took:.1f} s",
        is_met=status == 0 and took <= 10,
    )


def memory(setup: Setup) -> Iterator[Row]:
    early = setup.num_requests // 10
    work = requests("bad", setup.small_asked)
    with server(setup.small) as (_, url):
        sizes = []
        for number in (early, setup.num_requests - early):
            part = itertools.islice(work, number)
            seen = asyncio.run(
                measured(url, part, num_clients=64, seconds=float("inf"))
            )
            sizes.append(seen["server_mb"])
    growth = sizes[1] / sizes[0] - 1
    yield Row(
        target="memory after 50,000 requests, half of them bad: within 5% of that "
        "after 5,000",
        found=f"{sizes[0]:.0f} MB after {early:,}, {sizes[1]:.0f} MB after "
        f"{setup.num_requests:,} ({growth:+.1%})",
        is_met=abs(growth) <= 0.05,
    )


def tests(setup: Setup) -> Iterator[Row]:
    """The targets that are tests: readable text, and forbidden addresses."""
    for target, files in (
        ("readable text of 20 page layouts", ["tests/web/test_page_text.py"]),
        (
            "forbidden targets: 40 refused, no connection",
            ["tests/web/test_addresses.py", "tests/web/test_fetch.py"],
        ),
    ):
        command = [sys.executable, "-m", "pytest", "-q", *files]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        yield Row(
            target=target,
            found=done.stdout.strip().splitlines()[-1],
            is_met=done.returncode == 0,
        )


def queries_per_s(folder: Path, questions: Sequence[str], seconds: float) -> float:
    """Speed of an index in this process, in batches of QUERIES_PER_BATCH."""
    from jaxsearch.search.indexes import load_index

    index = load_index(folder)
    rows, num = itertools.cycle(questions), 0
    index.search(list(itertools.islice(rows, QUERIES_PER_BATCH)), K)
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        index.search(list(itertools.islice(rows, QUERIES_PER_BATCH)), K)
        num += QUERIES_PER_BATCH
    return num / (time.monotonic() - start)


def errors(seen: dict[str, Any]) -> str:
    num = sum(n for status, n in seen["statuses"].items() if status != 200)
    return f"{num + seen['broken']} errors"


def latencies(seen: dict[str, Any]) -> str:
    return (
        f"{seen['requests_per_s']:.0f} requests/s, p50 {seen['p50_ms']:.0f} ms, "
        f"p99 {seen['p99_ms']:.0f} ms"
    )


def health(seen: dict[str, Any]) -> str:
    return f"/health at most {seen['health_max_ms']:.0f} ms"
