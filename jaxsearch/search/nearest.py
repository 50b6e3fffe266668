"""Nearest passages: from candidates of a search to hits.

Every index finds candidates in its own way. Their scores are then computed from the
stored vectors, each from its own row alone, so that the score of a passage depends
neither on the other candidates nor on the other queries, bit for bit.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Integer

from jaxsearch.search.encoder import Encoder
from jaxsearch.search.index import Hit
from jaxsearch.search.index_folder import Corpora
from jaxsearch.search.passage_store import passages_at
from jaxsearch.search.passages import Passage
from jaxsearch.search.vector_shards import VectorShards

# Scores that are equal to this many decimals are ties: float32 sums in a different
# order differ by less.
SCORE_DECIMALS = 6
# Number of candidates beyond k. Among passages that tie at rank k, the first ones of
# the corpus are returned, not those that happened to be found.
NUM_SPARE = 16
# Queries that are searched together, and those whose candidates are scored together.
# Both bound the memory.
_NUM_SEARCHED = 256
_NUM_SCORED = 32


class Nearest(NamedTuple):
    """Positions of the passages that are nearest to a query, and scores, best first."""

    positions: Integer[np.ndarray, " _"]
    scores: Float[np.ndarray, " _"]


# Their number differs from query to query.
Candidates = Sequence[Integer[np.ndarray, " _"]]
"""Positions of candidates, for each query."""


def check_k(k: int) -> None:
    """Raises ValueError unless k is at least 1."""
    if k < 1:
        raise ValueError(f"k, the number of hits per query, must be >= 1, got {k}")


def ranked(
    find: Callable[[Float32[np.ndarray, "Q dims"]], Candidates],
    vectors: Float32[np.ndarray, "Q dims"],
    shards: VectorShards,
    k: int,
) -> list[Nearest]:
    """The k best candidates of each query; none for the zero vector.

    Args:
      find: finds candidates of queries.
      vectors: the queries.
      shards: the stored vectors.
      k: number of passages per query.
    """
    check_k(k)
    nothing = Nearest(np.zeros(0, np.int64), np.zeros(0))
    found = [nothing] * len(vectors)
    known = np.flatnonzero(vectors.any(axis=1))
    for start in range(0, len(known), _NUM_SEARCHED):
        searched = known[start : start + _NUM_SEARCHED]
        candidates = find(vectors[searched])
        for first in range(0, len(searched), _NUM_SCORED):
            chosen = slice(first, first + _NUM_SCORED)
            rows = searched[chosen]
            scored = _scored(vectors[rows], candidates[chosen], shards, k)
            for row, one in zip(rows, scored, strict=True):
                found[row] = one
    return found


def _scored(
    vectors: Float32[np.ndarray, "Q dims"],
    candidates: Candidates,
    shards: VectorShards,
    k: int,
) -> list[Nearest]:
    """The k best candidates of each query."""
    # A page of the disk is read once for all queries of the batch.
    positions = np.unique(np.concatenate(candidates))
    stored = shards.rows(positions)
    found = []
    for vector, own in zip(vectors, candidates, strict=True):
        own = np.sort(own)
        scores = row_products(stored[np.searchsorted(positions, own)], vector)
        found.append(best(own, scores, k))
    return found


def row_products(
    rows: Float32[np.ndarray, "n dims"], vector: Float32[np.ndarray, " dims"]
) -> Float32[np.ndarray, " n"]:
    """The inner product of each row with a vector.

    A matrix product would add in another order for another number of rows.
    """
    return (rows * vector).sum(axis=1)


def best(
    positions: Integer[np.ndarray, " candidates"],
    scores: Float[np.ndarray, " candidates"],
    k: int,
) -> Nearest:
    """Returns the k best of the candidates; ties go to the lower position."""
    scores = np.round(scores.astype(np.float64), SCORE_DECIMALS)
    if k < len(scores):
        is_candidate = scores >= np.partition(scores, -k)[-k]
        positions, scores = positions[is_candidate], scores[is_candidate]
    order = np.lexsort((positions, -scores))[:k]
    return Nearest(positions[order], scores[order])


def hits_of(
    found: Sequence[Nearest], passages: Sequence[Passage], corpora: Corpora
) -> list[list[Hit]]:
    """The hits of each query, with all passages read at once."""
    wanted = [int(position) for one in found for position in one.positions]
    read = iter(passages_at(passages, wanted))
    return [
        [
            Hit(
                passage=next(read),
                score=float(score),
                corpus=corpora.name(int(position)),
            )
            for position, score in zip(*one, strict=True)
        ]
        for one in found
    ]


def needed_encoder(encoder: Encoder | None) -> Encoder:
    """The encoder of queries.

    Raises:
      ValueError: if the index was built from vectors without an encoder.
    """
    if encoder is None:
        raise ValueError(
            "the index was built with `--encoder none`, so it cannot search for a "
            "text; give the encoder of its vectors by value, with `load_index(..., "
            "encoder=...)` or --encoder package.module:NAME, or build it with one"
        )
    return encoder
