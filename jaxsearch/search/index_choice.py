"""Choice between exact search and ScaNN for an index of vectors, by measuring both."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from jaxsearch.search.dense_index import DenseIndex
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.encoder_options import Report, no_report
from jaxsearch.search.exact_index import ExactIndex, exact_candidates
from jaxsearch.search.index_folder import Corpora
from jaxsearch.search.passages import Passage
from jaxsearch.search.scann_index import ScannIndex, check_num_threads
from jaxsearch.search.scann_recall import calibrate, calibration_queries
from jaxsearch.search.scann_scorer import MAX_EXACT, TreeAh, tree_for_size
from jaxsearch.search.scann_searcher import default_num_threads, train_searcher
from jaxsearch.search.vector_shards import VectorShards

# Size of the batch of queries for the comparison, as in a rollout.
_NUM_TIMED = 32
_NUM_RUNS = 5
_K = 10
# In a larger corpus, exact search is timed on a part.
_NUM_EXACT = 200_000


class DenseParts(NamedTuple):
    """The parts that exact and ScaNN indexes have in common."""

    passages: Sequence[Passage]
    encoder: Encoder | None
    vectors: VectorShards
    corpus_fingerprint: str
    corpora: Corpora


def choose_index(
    parts: DenseParts,
    *,
    scorer: TreeAh | None = None,
    num_threads: int | None = None,
    num_leaves: int | None = None,
    num_sampled: int | None = None,
    platform: str = sys.platform,
    report: Report = no_report,
) -> DenseIndex:
    """Builds the faster of an exact index and a ScaNN index.

    ScaNN's training has no seed, so two trees of the same corpus miss different
    passages. A saved index always gives the same results; use one saved index for runs
    that you compare.

    Args:
      parts: passages, encoder and vectors.
      scorer: settings of a tree, which is built without a comparison; None compares,
        with the number of leaves that the recall target needs.
      num_threads: threads for training and search; None means all of the host's cores
        for training, and half for search, because decoding needs the others.
      num_leaves: leaves of a tree whose other settings are chosen; None chooses them.
      num_sampled: vectors that a tree is trained on; None chooses.
      platform: the operating system; ScaNN exists for Linux.
      report: receives the number of vectors in the tree.

    Raises:
      ValueError: if `scorer` asks for a tree on a platform without ScaNN.
    """
    train_threads = (os.cpu_count() or 1) if num_threads is None else num_threads
    num_threads = default_num_threads() if num_threads is None else num_threads
    check_num_threads(num_threads)
    if platform != "linux" and scorer is not None:
        raise ValueError(
            f"ScaNN is not available on {platform}, so {scorer} cannot be built; omit "
            "scorer"
        )

    if platform != "linux":
        return _exact(parts, f"ScaNN is not available on {platform}")
    if scorer is None and len(parts.vectors) <= MAX_EXACT:
        reason = f"exact search is fast enough up to {MAX_EXACT:,} passages"
        return _exact(parts, reason)
    chosen = scorer or tree_for_size(len(parts.vectors), num_leaves)
    searcher = train_searcher(
        parts.vectors,
        chosen,
        num_threads=train_threads,
        num_sampled=num_sampled,
        report=report,
    )
    tree = ScannIndex(
        parts.passages,
        parts.encoder,
        parts.vectors,
        searcher=searcher,
        scorer=chosen,
        num_threads=num_threads,
        corpus_fingerprint=parts.corpus_fingerprint,
        corpora=parts.corpora,
        reason="its settings were given",
    )
    if scorer is not None:
        return tree
    queries = calibration_queries(parts.passages, parts.encoder, parts.vectors)
    if not len(queries):
        return _exact(parts, "no query for a comparison with ScaNN has a vector")
    return _faster(_exact(parts, ""), calibrate(tree, queries), queries)


def _exact(parts: DenseParts, reason: str) -> ExactIndex:
    """The exact index of the parts."""
    return ExactIndex(
        parts.passages,
        parts.encoder,
        parts.vectors,
        corpus_fingerprint=parts.corpus_fingerprint,
        corpora=parts.corpora,
        reason=reason,
    )


def _faster(
    exact: ExactIndex, tree: ScannIndex, queries: Float32[np.ndarray, "Q dims"]
) -> DenseIndex:
    """The faster of two indexes, which says why it was chosen."""
    batch = np.resize(queries, (_NUM_TIMED, queries.shape[1]))
    exact_ms = _exact_ms(exact.vectors, batch)
    tree_ms = _median_ms(lambda: tree.nearest(batch, _K))
    chosen = tree if tree_ms < exact_ms else exact
    chosen.reason = (
        f"{_NUM_TIMED} queries took {exact_ms:.1f} ms by exact search and "
        f"{tree_ms:.1f} ms by ScaNN with {tree.scorer.leaves_to_search} of "
        f"{tree.scorer.num_leaves} leaves"
    )
    return chosen


def _exact_ms(vectors: VectorShards, batch: Float32[np.ndarray, "Q dims"]) -> float:
    """Time of exact search, which is proportional to the number of vectors."""
    arrays = list(vectors.arrays)
    while len(arrays) > 1 and sum(map(len, arrays[:-1])) >= _NUM_EXACT:
        arrays.pop()
    timed = VectorShards(arrays)
    elapsed = _median_ms(lambda: exact_candidates(batch, timed, _K))
    return elapsed * len(vectors) / len(timed)


def _median_ms(search: Callable[[], object]) -> float:
    search()
    elapsed = []
    for _ in range(_NUM_RUNS):
        started = time.perf_counter()
        search()
        elapsed.append(1e3 * (time.perf_counter() - started))
    return float(np.median(elapsed))
