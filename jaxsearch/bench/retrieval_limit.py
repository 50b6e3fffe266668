"""`jaxsearch bench retrieval --index`: an index beside its limit.

The limit is the time in which the machine reads what a batch needs: the vectors or
codes that are compared, the rows that are scored again, the postings of the query's
words; and that of the encoder's matrix products. Choosing the best passages, reading
them and Python's own time are not in it.
"""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxsearch.bench.encode import phases
from jaxsearch.bench.measurement import say
from jaxsearch.search.bert_encoder import BertEncoder
from jaxsearch.search.bm25_index import Bm25Index
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.hybrid_index import HybridIndex
from jaxsearch.search.index_latency import Index, latencies
from jaxsearch.search.index_queries import sample_queries
from jaxsearch.search.indexes import load_index
from jaxsearch.search.scann_index import ScannIndex

_NUM_QUERIES = 512
_COPIED_BYTES = 2**28
_REPEATS = 7
_CODE_BYTES = 0.5  # of a block of dimensions: one of 16 codes
_POSTING_BYTES = 8  # a position and a weight


class Need(NamedTuple):
    """The least work that a batch of queries needs.

    Attributes:
      num_bytes: read from memory.
      flops: of matrix products of the search.
      encoder_flops: of the encoder's.
      encoder_s: their time at measured rates.
    """

    num_bytes: float
    flops: float
    encoder_flops: float = 0.0
    encoder_s: float = 0.0


def bench_index(folder: str | Path, *, k: int) -> dict[str, Any]:
    """Measures an index at batches of 1, 32 and 256 queries.

    Returns:
      The copy rate of the machine, and for each size of batch the median milliseconds
      with and without encoding, the limits, and their shares of what was measured.

    Raises:
      ValueError: if the index cannot be read, or has no encoder.
    """
    index = load_index(folder, num_threads=os.cpu_count())
    if index.encoder is None and not isinstance(index, Bm25Index):
        raise ValueError(
            f"index {folder} was built with --encoder none: it has no queries to "
            "measure; `jaxsearch index check` measures it with vectors"
        )
    sampled = sample_queries(index.passages, _NUM_QUERIES, seed=0)
    queries = [text for pair in zip(*sampled.values(), strict=True) for text in pair]
    rate = copy_rate()
    say(f"{rate / 1e9:.1f} GB/s are copied; measuring {len(queries)} queries")
    measured = latencies(index, queries, k)
    found = {
        size: _beside(one, needed(index, queries[: int(size)]), rate)
        for size, one in measured.items()
    }
    return {
        "index": str(folder),
        "kind": index.kind,
        "num_passages": len(index.passages),
        "scorer": index.scorer_json(),
        "k": k,
        "copy_bytes_per_s": rate,
        "batches": found,
    }


def _beside(measured: dict[str, Any], need: Need, rate: float) -> dict[str, Any]:
    """Measured milliseconds beside their limits."""
    search_ms = measured["search"]["median"]
    limit_ms = 1e3 * need.num_bytes / rate
    found = {
        "search_ms": search_ms,
        "search_bytes": need.num_bytes,
        "search_flops": need.flops,
        "search_limit_ms": limit_ms,
        "search_limit_fraction": limit_ms / search_ms,
    }
    if "total" in measured:
        total_ms = measured["total"]["median"]
        encoder_ms = 1e3 * need.encoder_s
        found |= {
            "total_ms": total_ms,
            "encoder_flops": need.encoder_flops,
            "encoder_limit_ms": encoder_ms,
            "total_limit_fraction": (limit_ms + encoder_ms) / total_ms,
        }
    return found


def needed(index: Index, queries: Sequence[str]) -> Need:
    """The work that a batch of queries needs from an index."""
    if isinstance(index, Bm25Index):
        # Each passage has a score, which is set to zero.
        postings = sum(index.num_postings(query) for query in queries)
        scores = 4 * len(queries) * len(index.passages)
        return Need(_POSTING_BYTES * postings + scores, 0.0)
    if isinstance(index, HybridIndex):
        dense, lexical = (needed(one, queries) for one in (index.dense, index.lexical))
        return dense._replace(num_bytes=dense.num_bytes + lexical.num_bytes)
    row_bytes = index.vectors.dims * index.vectors.arrays[0].itemsize
    encoder_flops, encoder_s = _encoder_work(index, queries)
    if isinstance(index, ExactIndex):
        need = Need(
            row_bytes * len(index.vectors),
            2.0 * len(queries) * len(index.vectors) * index.vectors.dims,
        )
    else:
        need = _tree_need(index, row_bytes, len(queries))
    return need._replace(encoder_flops=encoder_flops, encoder_s=encoder_s)


def _tree_need(index: ScannIndex, row_bytes: int, num_queries: int) -> Need:
    """Centroids once; for each query the codes of its leaves and rows to rescore."""
    tree, dims = index.scorer, index.vectors.dims
    share = tree.leaves_to_search / tree.num_leaves
    codes = _CODE_BYTES * dims / tree.dimensions_per_block * len(index.vectors) * share
    rescored = row_bytes * min(tree.reorder, len(index.vectors))
    centroids = 4 * dims * tree.num_leaves
    return Need(
        centroids + num_queries * (codes + rescored),
        2.0 * num_queries * dims * (tree.num_leaves + tree.reorder),
    )


def _encoder_work(index: Index, queries: Sequence[str]) -> tuple[float, float]:
    """FLOPs and seconds of the encoder; none of one that is no BERT."""
    encoder = index.encoder
    if not isinstance(encoder, BertEncoder):
        return 0.0, 0.0
    lengths = encoder.query_lens(queries)
    work = phases(encoder.architecture, encoder.settings.dtype, lengths).values()
    return sum(one.flops for one in work), sum(one.seconds for one in work)


def copy_rate() -> float:
    """Bytes that the machine reads per second while it copies a large array."""
    source = np.ones(_COPIED_BYTES // 4, np.float32)
    target = np.empty_like(source)
    elapsed = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        np.copyto(target, source)
        elapsed.append(time.perf_counter() - started)
    return source.nbytes / statistics.median(elapsed)
