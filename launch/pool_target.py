"""The target of a client with several servers; for serve_load.py."""

import concurrent.futures
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from http_load import K
from serve_targets import Row, Setup, server
from unreliable_servers import relaying

SETTLED_S = 5.0  # until a client knows its servers
CLIENTS = 8


def pool(setup: Setup) -> Iterator[Row]:
    with server(setup.small) as (_, url):
        alone = pool_latencies([url], setup)
        with relaying(url) as hanging, relaying(url) as refusing:
            urls = [hanging.url, refusing.url, url]

            def fail() -> None:
                hanging.hang()
                refusing.close()

            seen = pool_latencies(urls, setup, fail)
    ratio = statistics.median(seen) / statistics.median(alone)
    yield Row(
        target="a client with 3 servers, one hanging, one refusing: every query "
        "answered, median at most 1.2 x that of one good server after 5 s",
        found=f"{len(seen)} queries, median {statistics.median(seen) * 1e3:.1f} ms "
        f"({ratio:.2f} x), longest {max(seen) * 1e3:.0f} ms",
        is_met=ratio <= 1.2,
    )


def pool_latencies(
    urls: Sequence[str], setup: Setup, fail: Callable[[], None] = lambda: None
) -> list[float]:
    """Seconds of each query of a client after it has settled; all are answered.

    Args:
      fail: called when the client has opened the servers.
    """
    from jaxsearch.env.retries import RetryingRetriever
    from jaxsearch.remote.retriever import open_remote
    from jaxsearch.remote.settings import ClientSettings

    settings = ClientSettings(cached_queries=0)
    remote = open_remote(",".join(urls), settings=settings, note=lambda line: None)
    retriever = RetryingRetriever(remote, attempts=3, timeout_s=60.0)
    fail()
    start = time.monotonic()
    end = start + SETTLED_S + setup.seconds / 2

    def client(number: int) -> list[float]:
        found = []
        for query in itertools.cycle(setup.small_asked[number::CLIENTS]):
            began = time.monotonic()
            if began >= end:
                return found
            [hits] = retriever.search([query], K)
            assert hits
            if began >= start + SETTLED_S:
                found.append(time.monotonic() - began)
        return found

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
        parts = threads.map(client, range(CLIENTS))
        return [seconds for part in parts for seconds in part]
