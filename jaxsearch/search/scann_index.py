"""Approximate search with ScaNN."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.encoder_options import QueryDevice
from jaxsearch.search.exact_index import best_hits, check_k, encode_corpus
from jaxsearch.search.index import Hit
from jaxsearch.search.index_folder import read_index, write_index
from jaxsearch.search.passages import Passage, corpus_fingerprint
from jaxsearch.search.scann_recall import calibrate, calibration_queries
from jaxsearch.search.scann_scorer import (
    Scorer,
    TreeAh,
    scorer_for_size,
    scorer_from_json,
)
from jaxsearch.search.scann_searcher import (
    Searcher,
    create_searcher,
    default_num_threads,
    load_searcher,
)

# Number of candidates beyond k to request from ScaNN. Among passages that tie at rank
# k, the first ones of the corpus are returned, not those that ScaNN happened to find.
NUM_SPARE = 16


class ScannIndex:
    """A ScaNN index of one corpus; use `build` or `load`.

    The answer to a query does not depend on the other queries of its batch, bit for
    bit: ScaNN receives one row at a time, on several threads. (In one brute-force
    batch, sums are in a different order: the scores of 32 of 35 hits changed with the
    batch size.)
    """

    kind: ClassVar[str] = "scann"

    def __init__(
        self,
        passages: Sequence[Passage],
        encoder: Encoder,
        *,
        searcher: Searcher,
        scorer: Scorer,
        num_threads: int,
        corpus_fingerprint: str,
    ):
        if num_threads < 1:
            raise ValueError(f"num_threads must be >= 1, got {num_threads}")
        if searcher.size() != len(passages):
            raise ValueError(
                f"expected one vector per passage, got {searcher.size()} vectors for "
                f"{len(passages)} passages; rebuild the index"
            )
        self.passages = list(passages)
        self.encoder = encoder
        self.scorer = scorer
        self.num_threads = num_threads
        self.corpus_fingerprint = corpus_fingerprint
        self._searcher = searcher
        # One call at a time: each call already uses all of ScaNN's threads.
        self._searching = threading.Lock()
        if num_threads > 1:
            # The calling thread works too. With 0 helper threads ScaNN 1.4.2 crashes.
            searcher.set_num_threads(num_threads - 1)

    def __repr__(self) -> str:
        return f"ScannIndex({len(self.passages):,} passages, {self.encoder.name})"

    @classmethod
    def build(
        cls,
        passages: Sequence[Passage],
        encoder: Encoder,
        *,
        scorer: Scorer | None = None,
        num_threads: int | None = None,
    ) -> "ScannIndex":
        """Encodes the passages and trains ScaNN on their vectors.

        ScaNN's training has no seed, so two trees of the same corpus miss different
        passages. A saved index always gives the same answers; use the same saved index
        for runs that are to be compared.

        Args:
          passages: the corpus.
          encoder: makes the vectors of passages and queries.
          scorer: None chooses by the number of passages. For a tree it then measures
            on titles how many leaves recall@5 needs.
          num_threads: for training and search; None means half of the host's cores.
        """
        num_threads = default_num_threads() if num_threads is None else num_threads
        if num_threads < 1:
            raise ValueError(f"num_threads must be >= 1, got {num_threads}")
        vectors = encode_corpus(passages, encoder)
        chosen = scorer_for_size(len(passages)) if scorer is None else scorer
        searcher = create_searcher(vectors, chosen, num_threads=num_threads)
        if scorer is None and isinstance(chosen, TreeAh):
            queries = calibration_queries(passages, encoder)
            if len(queries):
                chosen = calibrate(searcher, chosen, vectors, queries)
        return cls(
            passages,
            encoder,
            searcher=searcher,
            scorer=chosen,
            num_threads=num_threads,
            corpus_fingerprint=corpus_fingerprint(passages),
        )

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first; none if its vector is zero."""
        check_k(k)
        hits: list[list[Hit]] = [[] for _ in queries]
        vectors = self.encoder.encode_queries(queries)
        known = np.flatnonzero(vectors.any(axis=1))
        if not len(known):
            return hits
        with self._searching:
            positions, scores = self._nearest(vectors[known], k)
        for row, found, found_scores in zip(known, positions, scores, strict=True):
            is_passage = ~np.isnan(found_scores)
            hits[row] = best_hits(
                self.passages, found[is_passage], found_scores[is_passage], k
            )
        return hits

    def save(self, folder: str | Path) -> None:
        """Writes the index to a new folder."""
        write_index(
            Path(folder),
            kind=self.kind,
            passages=self.passages,
            corpus_fingerprint=self.corpus_fingerprint,
            encoder=self.encoder,
            scorer=self.scorer.to_json(),
            write_vectors=lambda to: self._searcher.serialize(
                str(to), relative_path=True
            ),
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        corpus_fingerprint: str | None = None,
        encoder: Encoder | EncoderFactory | None = None,
        query_device: QueryDevice = "host",
        num_threads: int | None = None,
    ) -> "ScannIndex":
        """Reads a saved index; the arguments are those of `read_index`.

        Args:
          num_threads: for search; None means half of the host's cores.
        """
        stored = read_index(
            Path(folder),
            kind=cls.kind,
            corpus_fingerprint=corpus_fingerprint,
            encoder=encoder,
            query_device=query_device,
        )
        return cls(
            stored.passages,
            stored.encoder,
            searcher=load_searcher(stored.vectors),
            scorer=scorer_from_json(stored.manifest.scorer),
            num_threads=default_num_threads() if num_threads is None else num_threads,
            corpus_fingerprint=stored.manifest.corpus_fingerprint,
        )

    def _nearest(
        self, vectors: Float32[np.ndarray, "Q dims"], k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns positions and scores [Q, candidates]; a score is NaN for no hit."""
        num_candidates = min(k + NUM_SPARE, len(self.passages))
        settings = {"final_num_neighbors": num_candidates}
        if isinstance(self.scorer, TreeAh):
            settings["leaves_to_search"] = self.scorer.leaves_to_search
            settings["pre_reorder_num_neighbors"] = max(
                self.scorer.reorder, num_candidates
            )
        if self.num_threads > 1:
            return self._searcher.search_batched_parallel(
                vectors, batch_size=1, **settings
            )
        parts = [
            self._searcher.search_batched(vectors[row : row + 1], **settings)
            for row in range(len(vectors))
        ]
        return (
            np.concatenate([positions for positions, _ in parts]),
            np.concatenate([scores for _, scores in parts]),
        )
