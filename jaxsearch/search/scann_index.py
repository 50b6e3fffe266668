"""Approximate search with ScaNN."""

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from jaxsearch.search.dense_index import DenseIndex, check_count
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.index_folder import SCANN, Corpora
from jaxsearch.search.nearest import (
    NUM_SPARE,
    Candidates,
    Nearest,
    ranked,
)
from jaxsearch.search.passages import Passage
from jaxsearch.search.scann_scorer import TreeAh
from jaxsearch.search.scann_searcher import Searcher, save_searcher
from jaxsearch.search.vector_shards import VectorShards


class ScannIndex(DenseIndex):
    """A ScaNN index of one corpus, made by `choose_index` or `load_index`.

    ScaNN holds a tree and compressed vectors. The candidates that it finds are scored
    with the stored vectors, which are mapped into memory.

    The answer to a query does not depend on the other queries of its batch, bit for
    bit: ScaNN receives one row at a time, on several threads.
    """

    kind: ClassVar[str] = "scann"

    def __init__(
        self,
        passages: Sequence[Passage],
        encoder: Encoder | None,
        vectors: VectorShards,
        *,
        searcher: Searcher,
        scorer: TreeAh,
        num_threads: int,
        corpus_fingerprint: str,
        corpora: Corpora | None = None,
        reason: str = "",
    ):
        check_num_threads(num_threads)
        check_count(passages, searcher.size())
        super().__init__(
            passages,
            encoder,
            vectors,
            corpus_fingerprint=corpus_fingerprint,
            corpora=corpora,
            reason=reason,
        )
        self.scorer = scorer
        self.num_threads = num_threads
        self._searcher = searcher
        # One call at a time: each call already uses all of ScaNN's threads.
        self._searching = threading.Lock()
        if num_threads > 1:
            # The calling thread works too. With 0 helper threads ScaNN 1.4.2 crashes.
            searcher.set_num_threads(num_threads - 1)

    def nearest(self, vectors: Float32[np.ndarray, "Q dims"], k: int) -> list[Nearest]:
        """Positions and scores of the nearest passages found; reads no passage."""
        return ranked(
            lambda known: self._candidates(known, k), vectors, self.vectors, k
        )

    def with_scorer(self, scorer: TreeAh) -> "ScannIndex":
        """The same tree, searched with other settings."""
        if dataclasses.replace(scorer, leaves_to_search=1) != dataclasses.replace(
            self.scorer, leaves_to_search=1, reorder=scorer.reorder
        ):
            raise ValueError(
                f"only leaves_to_search and reorder of a tree can change, got {scorer} "
                f"for {self.scorer}"
            )
        return ScannIndex(
            self.passages,
            self.encoder,
            self.vectors,
            searcher=self._searcher,
            scorer=scorer,
            num_threads=self.num_threads,
            corpus_fingerprint=self.corpus_fingerprint,
            corpora=self.corpora,
            reason=self.reason,
        )

    def scorer_json(self) -> dict[str, Any]:
        """Settings of the search, for the manifest."""
        return self.scorer.to_json()

    def save_more(self, folder: Path) -> None:
        """Writes the tree."""
        self.save_tree(folder / SCANN)

    def save_tree(self, folder: Path) -> None:
        """Writes ScaNN's files to a folder."""
        save_searcher(self._searcher, folder)

    def _candidates(self, vectors: Float32[np.ndarray, "Q dims"], k: int) -> Candidates:
        """Positions of the candidates of each query, from ScaNN."""
        num = min(max(self.scorer.reorder, k + NUM_SPARE), len(self.passages))
        with self._searching:
            positions, scores = found_by(
                self._searcher,
                vectors,
                num_threads=self.num_threads,
                final_num_neighbors=num,
                # For a searcher of format 1, which reorders by itself.
                pre_reorder_num_neighbors=num,
                leaves_to_search=self.scorer.leaves_to_search,
            )
        is_passage = ~np.isnan(scores)
        return [
            row[own].astype(np.int64)
            for row, own in zip(positions, is_passage, strict=True)
        ]


def found_by(
    searcher: Searcher,
    vectors: Float32[np.ndarray, "Q dims"],
    *,
    num_threads: int,
    **settings: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores [Q, candidates] of ScaNN; a score is NaN for no passage."""
    if num_threads > 1:
        return searcher.search_batched_parallel(vectors, batch_size=1, **settings)
    parts = [
        searcher.search_batched(vectors[row : row + 1], **settings)
        for row in range(len(vectors))
    ]
    return (
        np.concatenate([positions for positions, _ in parts]),
        np.concatenate([scores for _, scores in parts]),
    )


def check_num_threads(num_threads: int) -> None:
    """Raises ValueError unless there is a thread."""
    if num_threads < 1:
        raise ValueError(f"num_threads must be >= 1, got {num_threads}")
