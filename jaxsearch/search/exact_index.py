"""Exact search: the reference for other indexes, and the fastest in small corpora."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32

from jaxsearch.search.dense_index import DenseIndex
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.index import Hit
from jaxsearch.search.index_folder import Corpora
from jaxsearch.search.nearest import (
    NUM_SPARE,
    SCORE_DECIMALS,
    Candidates,
    Nearest,
    best,
    check_k,
    needed_encoder,
    ranked,
    row_products,
)
from jaxsearch.search.passages import Passage, corpus_fingerprint
from jaxsearch.search.vector_shards import VectorShards, as_float32

# Shape of each matrix product: of another shape, sums may have another order. Queries
# are padded; the last block of a corpus always has the same size.
_TILE = 16  # queries
_BLOCK = 1024  # passages; their float32 vectors stay in the cache
_STRIP = 8 * _BLOCK  # passages whose scores are looked at together


class ExactIndex(DenseIndex):
    """An index that compares each query with every passage.

    Among scores that are equal to six decimals, the passage that comes first in the
    corpus wins.
    """

    kind: ClassVar[str] = "exact"

    def __init__(
        self,
        passages: Sequence[Passage],
        encoder: Encoder | None,
        vectors: VectorShards | None = None,
        *,
        corpus_fingerprint: str = "",
        corpora: Corpora | None = None,
        reason: str = "",
    ):
        """Encodes the passages unless their vectors are given.

        Args:
          passages: the corpus.
          encoder: encodes queries, and passages without vectors.
          vectors: vectors of the passages.
          corpus_fingerprint: of the passages; "" computes it.
          corpora: names of the corpora, if there are several.
          reason: why no other kind of index was built.
        """
        if vectors is None:
            vectors = VectorShards([encode_corpus(passages, needed_encoder(encoder))])
        super().__init__(
            passages,
            encoder,
            vectors,
            corpus_fingerprint=corpus_fingerprint or _fingerprint(passages),
            corpora=corpora,
            reason=reason,
        )

    def nearest(self, vectors: Float32[np.ndarray, "Q dims"], k: int) -> list[Nearest]:
        """Positions and scores of the k nearest passages; reads no passage."""
        return ranked(
            lambda known: exact_candidates(known, self.vectors, k + NUM_SPARE),
            vectors,
            self.vectors,
            k,
        )

    def scorer_json(self) -> dict[str, Any]:
        """Settings of the search, for the manifest."""
        return {"name": "exact"}

    def save_more(self, folder: Path) -> None:
        """Writes nothing, because the index has only passages and vectors."""


class EmptyIndex:
    """An index that finds nothing, to measure a policy without passages."""

    kind: ClassVar[str] = "empty"

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns no hits for each query."""
        check_k(k)
        return [[] for _ in queries]


def exact_candidates(
    queries: Float32[np.ndarray, "Q dims"], shards: VectorShards, num: int
) -> Candidates:
    """Positions of the `num` best passages of each query; ties go to the first ones."""
    num_tiles = -(-len(queries) // _TILE)
    tiles = np.zeros((num_tiles, _TILE, shards.dims), np.float32)
    tiles.reshape(-1, shards.dims)[: len(queries)] = queries
    pools = [_Pool(min(num, len(shards))) for _ in queries]
    scores = np.empty((num_tiles, _TILE, _STRIP), np.float32)
    for start in range(0, len(shards), _STRIP):
        width = min(_STRIP, len(shards) - start)
        _score(tiles, shards, start, scores[:, :, :width])
        for pool, row in zip(pools, scores.reshape(-1, _STRIP), strict=False):
            pool.add(start, row[:width])
    return [pool.positions for pool in pools]


def _score(
    tiles: Float32[np.ndarray, "tiles tile dims"],
    shards: VectorShards,
    first: int,
    scores: Float32[np.ndarray, "tiles tile passages"],
) -> None:
    """Writes the scores of consecutive passages, from the first one on."""
    product = np.empty((_TILE, _BLOCK), np.float32)
    width = scores.shape[2]
    for start in range(0, width, _BLOCK):
        num = min(_BLOCK, width - start)
        block = as_float32(shards.range(first + start, first + start + num))
        for tile, found in zip(tiles, scores, strict=True):
            found[:, start : start + num] = np.matmul(
                tile, block.T, out=product if num == _BLOCK else None
            )


class _Pool:
    """The best candidates of one query so far."""

    def __init__(self, num: int):
        self._num = num
        self.positions = np.zeros(0, np.int64)
        self._scores = np.zeros(0, np.float32)
        self._worst = np.float32(-np.inf)  # of a full pool

    def add(self, start: int, scores: Float32[np.ndarray, " passages"]) -> None:
        """Takes the scores of consecutive passages."""
        is_full = len(self._scores) == self._num
        # A later passage with the same score is worse; most blocks have no better one.
        better = (
            np.flatnonzero(scores > self._worst) if is_full else np.arange(len(scores))
        )
        if not len(better):
            return
        rounded = np.round(scores[better], SCORE_DECIMALS)
        if len(better) > self._num:
            is_best = rounded >= np.partition(rounded, -self._num)[-self._num]
            better, rounded = better[is_best], rounded[is_best]
        positions = np.concatenate([self.positions, better + start])
        rounded = np.concatenate([self._scores, rounded])
        order = np.lexsort((positions, -rounded))[: self._num]
        self.positions, self._scores = positions[order], rounded[order]
        self._worst = self._scores[-1]


def encode_corpus(
    passages: Sequence[Passage], encoder: Encoder
) -> Float32[np.ndarray, "P dims"]:
    """Encodes the passages and checks the vectors.

    Raises:
      ValueError: if there are no passages, or the encoder does not return one finite
        vector per passage.
    """
    if not len(passages):
        raise ValueError("an index needs at least one passage, got none")
    vectors = encoder.encode_passages(passages)
    if vectors.shape != (len(passages), encoder.dims):
        raise ValueError(
            f"encoder {encoder.name!r} returned {vectors.shape} for {len(passages)} "
            f"passages of {encoder.dims} dimensions"
        )
    if not np.isfinite(vectors).all():
        bad = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise ValueError(
            f"encoder {encoder.name!r} returned NaN or infinity for passage "
            f"{passages[bad].id!r:.80}"
        )
    return vectors


# ExactIndex has an argument of the name of this function.
_fingerprint = corpus_fingerprint


def exact_scores(
    queries: Float32[np.ndarray, "Q dims"], shards: VectorShards, k: int
) -> Float[np.ndarray, "Q k"]:
    """The k best scores of each query, after one pass over the stored vectors."""
    candidates = exact_candidates(queries, shards, k + NUM_SPARE)
    return np.stack(
        [
            best(own, row_products(shards.rows(own), query), k).scores
            for query, own in zip(queries, candidates, strict=True)
        ]
    )
