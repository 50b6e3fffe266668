"""Counters of a server, in Prometheus's text format."""

import bisect
import collections
import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

# Upper bounds in seconds.
BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts of durations below each of BUCKETS."""

    def __init__(self):
        self._counts = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def lines(self, name: str, labels: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*BUCKETS, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self._seconds:.6f}"
        yield f"{name}_count{{{labels}}} {total}"


class IndexMetrics:
    """Counters of one index; its worker threads write them."""

    def __init__(self):
        self._lock = threading.Lock()
        self._num_queries = 0
        self._num_failures = 0
        self._batches = Histogram()

    @contextlib.contextmanager
    def timed_batch(self, num_queries: int) -> Iterator[None]:
        """Context of one call of the retriever; failed calls are timed too."""
        start = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._num_queries += num_queries
                self._batches.add(time.monotonic() - start)

    def add_failure(self) -> None:
        """Counts a call of the retriever that failed."""
        with self._lock:
            self._num_failures += 1

    def samples(self, labels: str) -> Mapping[str, list[str]]:
        """Lines of each metric, by its name and kind."""
        with self._lock:
            return {
                "jaxsearch_queries_total counter": [
                    f"jaxsearch_queries_total{{{labels}}} {self._num_queries}"
                ],
                "jaxsearch_search_failures_total counter": [
                    f"jaxsearch_search_failures_total{{{labels}}} {self._num_failures}"
                ],
                "jaxsearch_search_seconds histogram": list(
                    self._batches.lines("jaxsearch_search_seconds", labels)
                ),
            }


class RequestMetrics:
    """Counters of requests; the event loop writes them.

    Paths that the server does not have are counted as "other", so that clients cannot
    add lines.
    """

    def __init__(self):
        self._counts: collections.Counter[tuple[str, int]] = collections.Counter()
        self._seconds: dict[str, Histogram] = {}

    def add(self, path: str, status: int, seconds: float) -> None:
        """Counts an answered request."""
        self._counts[path, status] += 1
        self._seconds.setdefault(path, Histogram()).add(seconds)

    @property
    def total(self) -> int:
        """Number of answered requests."""
        return self._counts.total()

    def samples(self) -> Mapping[str, list[str]]:
        """Lines of each metric, by its name and kind."""
        return {
            "jaxsearch_requests_total counter": [
                f'jaxsearch_requests_total{{path="{path}",status="{status}"}} {count}'
                for (path, status), count in sorted(self._counts.items())
            ],
            "jaxsearch_request_seconds histogram": [
                line
                for path, histogram in sorted(self._seconds.items())
                for line in histogram.lines(
                    "jaxsearch_request_seconds", f'path="{path}"'
                )
            ],
        }


def process_samples() -> Mapping[str, list[str]]:
    """Memory and time of this process, named as Prometheus's own clients do."""
    return {
        "process_resident_memory_bytes gauge": [
            f"process_resident_memory_bytes {_resident_bytes()}"
        ],
        "process_cpu_seconds_total counter": [
            f"process_cpu_seconds_total {time.process_time():.3f}"
        ],
    }


def gauge(name: str, value: int, labels: str) -> Mapping[str, list[str]]:
    """The line of a value that goes up and down."""
    return {f"{name} gauge": [f"{name}{{{labels}}} {value}"]}


def counts(values: Mapping[str, float], index: str) -> Mapping[str, list[str]]:
    """Lines of what a retriever counts, such as the queries that a provider got."""
    return {
        "jaxsearch_retriever_count gauge": [
            f'jaxsearch_retriever_count{{index="{index}",name="{name}"}} '
            f"{_number(value)}"
            for name, value in sorted(values.items())
        ]
    }


def _number(value: float) -> str:
    """All digits of a number; whole ones have no fraction."""
    return repr(float(value)).removesuffix(".0")


def _resident_bytes() -> int:
    """Memory of this process; 0 on systems without /proc."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def prometheus_text(*samples: Mapping[str, list[str]]) -> str:
    """The lines of all samples, grouped by metric as the format asks."""
    groups: dict[str, list[str]] = {}
    for part in samples:
        for metric, lines in part.items():
            groups.setdefault(metric, []).extend(lines)
    return "".join(
        f"# TYPE {metric}\n" + "".join(f"{line}\n" for line in lines)
        for metric, lines in groups.items()
    )
