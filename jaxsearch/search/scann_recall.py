"""Recall of a ScaNN index, and the cheapest settings that reach a target recall."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

from jaxsearch.search.encoder import Encoder
from jaxsearch.search.exact_index import exact_scores
from jaxsearch.search.passage_store import passages_at
from jaxsearch.search.passages import Passage
from jaxsearch.search.scann_index import ScannIndex
from jaxsearch.search.vector_shards import VectorShards

# Above the promised 0.95, because 200 queries measure recall to about 0.01.
TARGET_RECALL = 0.98
RECALL_AT = 10
NUM_CALIBRATION_QUERIES = 200
# Scores this close are treated as equal: sums in a different order differ by less.
SCORE_TOLERANCE = 1e-5
# Shares of the leaves that are tried, in 256ths.
_SHARES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 208, 224, 240)


def calibrate(
    index: ScannIndex,
    queries: Float32[np.ndarray, "Q dims"],
    *,
    target: float = TARGET_RECALL,
) -> ScannIndex:
    """Returns the index with the fewest leaves that reach the target recall.

    The number depends on the encoder far more than on the size of the corpus. With
    learned dense vectors, neighbours share a cluster; projected TF-IDF vectors are
    nearly orthogonal to each other and need most of the leaves.
    """
    k = min(RECALL_AT, len(index.passages))
    exact = exact_scores(queries, index.vectors, k)
    num_leaves = index.scorer.num_leaves
    for leaves in sorted({max(1, num_leaves * share // 256) for share in _SHARES}):
        tried = index.with_scorer(
            dataclasses.replace(index.scorer, leaves_to_search=leaves)
        )
        if recall(scores_of(tried, queries, k), exact) >= target:
            return tried
    return index.with_scorer(
        dataclasses.replace(index.scorer, leaves_to_search=num_leaves)
    )


def scores_of(
    index: ScannIndex, queries: Float32[np.ndarray, "Q dims"], k: int
) -> Float[np.ndarray, "Q k"]:
    """Scores of the passages found, with NaN for missing ones."""
    found = np.full((len(queries), k), np.nan)
    for row, one in zip(found, index.nearest(queries, k), strict=True):
        row[: len(one.scores)] = one.scores
    return found


def recall(
    found: Float[np.ndarray, "Q found"], exact: Float[np.ndarray, "Q k"]
) -> float:
    """Share of the k best scores that were found; NaN stands for no passage.

    Scores are compared instead of ids, so that finding one of two equal passages
    instead of the other is not a miss. It is a quotient of two counts, so nine
    of ten is exactly 0.9.
    """
    is_good = found >= exact.min(axis=1, keepdims=True) - SCORE_TOLERANCE
    return int(np.minimum(is_good.sum(axis=1), exact.shape[1]).sum()) / exact.size


def calibration_queries(
    passages: Sequence[Passage], encoder: Encoder | None, shards: VectorShards
) -> Float32[np.ndarray, "Q dims"]:
    """Vectors of queries: of titles and of words from the middle of passages.

    Without an encoder they are stored vectors with noise.
    """
    num = min(NUM_CALIBRATION_QUERIES, len(shards))
    positions = np.linspace(0, len(shards) - 1, num).astype(np.int64)
    if encoder is None:
        queries = noisy_vectors(shards, positions)
    else:
        queries = encoder.encode_queries(
            [
                _title(passage) if number % 2 else _middle(passage)
                for number, passage in enumerate(
                    passages_at(passages, positions.tolist())
                )
            ]
        )
    return queries[queries.any(axis=1)]


def noisy_vectors(
    shards: VectorShards, positions: np.ndarray, *, seed: int = 0
) -> Float32[np.ndarray, "Q dims"]:
    """Stored vectors, turned by about 30 degrees in a random direction."""
    vectors = shards.rows(positions)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    noise = np.random.default_rng(seed).standard_normal(vectors.shape, np.float32)
    noise *= 0.58 * lengths / np.sqrt(shards.dims)
    return vectors + noise


def _title(passage: Passage) -> str:
    return " ".join(passage.title.split()[:12])


def _middle(passage: Passage) -> str:
    words = (passage.text or passage.contents).split()
    start = max(0, len(words) // 2 - 6)
    return " ".join(words[start : start + 12])
