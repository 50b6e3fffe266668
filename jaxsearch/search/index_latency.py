"""How long an index takes to answer, with the encoding of queries and without it."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxsearch.search.bm25_index import Bm25Index
from jaxsearch.search.dense_index import DenseIndex
from jaxsearch.search.hybrid_index import HybridIndex

Index = DenseIndex | Bm25Index | HybridIndex
BATCHES = (1, 32, 256)
_NUM_QUERIES = 512  # per size of batch, in at least _MIN_RUNS runs
_MIN_RUNS = 5
_MAX_RUNS = 100


def latencies(index: Index, queries: Sequence[str], k: int) -> dict[str, Any]:
    """Milliseconds per batch, for each size of batch.

    Args:
      index: the index, with an encoder unless it is of words.
      queries: texts, used in turns.
      k: passages per query.

    Returns:
      For each size of batch `total`, from texts to passages, and `search`, the same
      without the encoder; each with median and 95th percentile. BM25, which has no
      encoder, has no `total`.
    """
    found: dict[str, Any] = {}
    for size in BATCHES:
        num_runs = min(_MAX_RUNS, max(_MIN_RUNS, _NUM_QUERIES // size))
        batches = list(itertools.islice(_batches(queries, size), num_runs))
        found[str(size)] = {
            name: _timed([prepare(batch) for batch in batches])
            for name, prepare in _measured(index, k).items()
        }
    return found


def latencies_of_vectors(
    index: DenseIndex, vectors: np.ndarray, k: int
) -> dict[str, Any]:
    """`latencies` of an index without an encoder, with these vectors as queries."""
    found: dict[str, Any] = {}
    for size in BATCHES:
        num_runs = min(_MAX_RUNS, max(_MIN_RUNS, _NUM_QUERIES // size))
        rows = np.resize(np.arange(len(vectors)), (num_runs, size))
        calls = [lambda own=vectors[row]: index.search_vectors(own, k) for row in rows]
        found[str(size)] = {"search": _timed(calls)}
    return found


Prepare = Callable[[list[str]], Callable[[], object]]
"""Makes the call that is timed from the queries of a batch."""


def _measured(index: Index, k: int) -> dict[str, Prepare]:
    def total(batch: list[str]) -> Callable[[], object]:
        return lambda: index.search(batch, k)

    if isinstance(index, Bm25Index):
        return {"search": total}

    def search(batch: list[str]) -> Callable[[], object]:
        vectors = index.encoder.encode_queries(batch)
        if isinstance(index, HybridIndex):
            return lambda: index.search_encoded(batch, vectors, k)
        return lambda: index.search_vectors(vectors, k)

    return {"total": total, "search": search}


def _batches(queries: Sequence[str], size: int) -> Iterator[list[str]]:
    turns = itertools.cycle(queries)
    while True:
        yield list(itertools.islice(turns, size))


def _timed(calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    """Median and 95th percentile of the calls' milliseconds, after a first one."""
    calls[0]()
    elapsed = []
    for call in calls:
        started = time.perf_counter()
        call()
        elapsed.append(1e3 * (time.perf_counter() - started))
    return {
        "median": float(np.median(elapsed)),
        "p95": float(np.percentile(elapsed, 95)),
    }
