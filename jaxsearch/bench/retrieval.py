"""`jaxsearch bench retrieval`: requests per second of a search server."""

import collections
import dataclasses
import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxsearch.bench.measurement import say
from jaxsearch.key_addresses import allow_keys
from jaxsearch.remote.address import DialectName
from jaxsearch.remote.connection import Connection
from jaxsearch.remote.detection import answers
from jaxsearch.remote.dialects import Dialect
from jaxsearch.remote.retriever import open_remote
from jaxsearch.search.index import Retriever, SearchError, SearchStoppedError
from jaxsearch.search.index_queries import sample_queries
from jaxsearch.search.indexes import load_index

_TIMEOUT_S = 30.0
_NUM_QUERIES = 1000
_IN_PROCESS_S = 5.0
_TOPICS = "river city king battle film song bridge school island novel painter law"
_PLACES = "france canada japan brazil kenya norway india peru egypt poland chile iran"
# Clients wait after an error, so that a refusing server is not asked in a loop.
_PAUSE_S = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """The requests of the clients.

    Attributes:
      clients: threads that ask at the same time, each one request after another.
      seconds: how long they ask.
      queries_per_request: queries in a request.
      k: passages per query.
    """

    clients: int = 64
    seconds: float = 20.0
    queries_per_request: int = 1
    k: int = 5

    def __post_init__(self):
        for name in ("clients", "queries_per_request", "k"):
            if vars(self)[name] < 1:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be at least 1, got {vars(self)[name]}")
        if not 0 < self.seconds <= 3600:
            raise ValueError(f"--seconds must be in (0, 3600], got {self.seconds:g}")


def bench_retrieval(
    url: str, load: Load, *, index: str = "", dialect: DialectName = "auto"
) -> dict[str, Any]:
    """Measures a server, compared with the same index called in this process.

    Clients send nothing twice and cache nothing. They are threads of this process, so
    on a machine of few cores they take a part of the server's time.

    Args:
      url: the server, or several with commas between them, shared by the clients.
      load: what the clients do.
      index: folder of the server's index, to call in this process and to draw queries
        from; "" for queries of common words and no comparison.
      dialect: the server's dialect.

    Returns:
      Rates per second, latencies in milliseconds (None if no request was answered),
      errors, and with an index the rate of one thread that calls it with batches of the
      same size.

    Raises:
      ValueError: if no server answers, or the index cannot be read.
    """
    allow_keys(url)
    remote = open_remote(url, dialect=dialect, timeout_s=_TIMEOUT_S, note=say)
    local = load_index(index, num_threads=os.cpu_count()) if index else None
    if local is None:
        pairs = itertools.product(_TOPICS.split(), _PLACES.split())
        queries = [" of ".join(pair) for pair in pairs]
    else:
        sampled = sample_queries(local.passages, _NUM_QUERIES, seed=0)
        queries = [*sampled["titles"], *sampled["sentences"]]
    found = _asked(remote.connections, remote.description.dialect, queries, load)
    result = {"url": url, "dialect": remote.description.dialect.name} | found
    if local is not None:
        rate = _in_process(local, queries, load)
        result["in_process_queries_per_s"] = rate
        result["share_of_in_process"] = result["queries_per_s"] / rate
    return result


def _batches(
    queries: Sequence[str], first: int, step: int, size: int
) -> Iterator[list[str]]:
    """Batches of queries, over and over, beginning at another one for each client."""
    for number in itertools.count(first, step):
        start = number * size
        yield [queries[i % len(queries)] for i in range(start, start + size)]


def _asked(
    connections: Sequence[Connection], dialect: Dialect, queries: list[str], load: Load
) -> dict[str, Any]:
    """Lets the clients ask, and summarizes what they saw."""
    times: list[list[float]] = [[] for _ in range(load.clients)]
    errors: collections.Counter[str] = collections.Counter()
    lock = threading.Lock()
    began = time.perf_counter()
    until = began + load.seconds

    def client(number: int) -> None:
        connection = connections[number % len(connections)]
        size = load.queries_per_request
        for batch in _batches(queries, number, load.clients, size):
            started = time.perf_counter()
            if started >= until:
                return
            try:
                answers(connection, dialect, batch, load.k, _TIMEOUT_S)
            except (SearchError, SearchStoppedError) as error:
                with lock:
                    errors[str(error)[:120]] += 1
                time.sleep(_PAUSE_S)
            else:
                times[number].append(time.perf_counter() - started)

    threads = [
        threading.Thread(target=client, args=(number,), daemon=True)
        for number in range(load.clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    latencies = 1e3 * np.array([one for client in times for one in client])
    p50, p99, longest = (
        np.percentile(latencies, [50, 99, 100]).tolist()
        if len(latencies)
        else [None] * 3
    )
    return {
        **dataclasses.asdict(load),
        "requests": len(latencies),
        "requests_per_s": len(latencies) / seconds,
        "queries_per_s": len(latencies) * load.queries_per_request / seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": longest,
        "errors": errors.total(),
        "reasons": dict(errors.most_common(3)),
    }


def _in_process(index: Retriever, queries: list[str], load: Load) -> float:
    """Queries per second of one thread that calls the index."""
    batches = _batches(queries, 0, 1, load.queries_per_request)
    index.search(next(batches), load.k)
    began = time.perf_counter()
    seconds = min(load.seconds, _IN_PROCESS_S)
    number, elapsed = 0, 0.0
    while elapsed < seconds:
        index.search(next(batches), load.k)
        number, elapsed = number + 1, time.perf_counter() - began
    return number * load.queries_per_request / elapsed
