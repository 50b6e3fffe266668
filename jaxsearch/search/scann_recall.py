"""Recall of a ScaNN searcher, and the number of leaves that reaches a target recall."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

from jaxsearch.search.encoder import Encoder
from jaxsearch.search.passages import Passage
from jaxsearch.search.scann_scorer import RECALL_AT, TreeAh
from jaxsearch.search.scann_searcher import Searcher

# Above the promised 0.95, because 200 queries measure recall to about 0.01.
TARGET_RECALL = 0.97
NUM_CALIBRATION_QUERIES = 200
# Scores this close are treated as equal: sums in a different order differ by less.
SCORE_TOLERANCE = 1e-5


def calibrate(
    searcher: Searcher,
    scorer: TreeAh,
    vectors: Float32[np.ndarray, "P dims"],
    queries: Float32[np.ndarray, "Q dims"],
) -> TreeAh:
    """Returns the scorer with the fewest leaves that reach TARGET_RECALL.

    The number depends on the encoder far more than on the size of the corpus. With
    learned dense vectors, neighbours share a cluster; projected TF-IDF vectors are
    nearly orthogonal to each other and need most of the leaves.
    """
    # Eight queries at a time, because each one needs a score for every passage.
    exact = np.concatenate(
        [
            np.partition(queries[start : start + 8] @ vectors.T, -RECALL_AT)[
                :, -RECALL_AT:
            ]
            for start in range(0, len(queries), 8)
        ]
    )
    for sixteenths in (1, 2, 4, 6, 8, 10, 12, 13, 14, 15):
        leaves = max(1, scorer.num_leaves * sixteenths // 16)
        _, found = searcher.search_batched(queries, leaves_to_search=leaves)
        if recall(found, exact) >= TARGET_RECALL:
            return dataclasses.replace(scorer, leaves_to_search=leaves)
    return dataclasses.replace(scorer, leaves_to_search=scorer.num_leaves)


def recall(
    found: Float[np.ndarray, "Q found"], exact: Float[np.ndarray, "Q k"]
) -> float:
    """Share of the k best scores that were found; NaN stands for no passage.

    Scores are compared instead of ids, so that finding one of two equal passages
    instead of the other is not a miss.
    """
    is_good = found >= exact.min(axis=1, keepdims=True) - SCORE_TOLERANCE
    return float(
        np.minimum(is_good.sum(axis=1), exact.shape[1]).mean() / exact.shape[1]
    )


def calibration_queries(
    passages: Sequence[Passage], encoder: Encoder
) -> Float32[np.ndarray, "Q dims"]:
    """Encodes the first 12 words of the titles of evenly spaced passages."""
    step = max(1, len(passages) // NUM_CALIBRATION_QUERIES)
    sample = passages[::step][:NUM_CALIBRATION_QUERIES]
    queries = encoder.encode_queries(
        [" ".join(passage.title.split()[:12]) for passage in sample]
    )
    return queries[queries.any(axis=1)]
