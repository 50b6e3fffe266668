"""Approximate search with ScaNN, and the choice of an index for this machine."""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from jaxsearch.search.encoder import Encoder, load_encoder
from jaxsearch.search.encoder_options import QueryDevice
from jaxsearch.search.exact_index import (
    ExactIndex,
    best_hits,
    check_k,
    encode_corpus,
)
from jaxsearch.search.index import Hit
from jaxsearch.search.index_folder import Manifest, read_index, write_index
from jaxsearch.search.passages import Passage, corpus_fingerprint
from jaxsearch.search.scann_scorer import (
    BruteForce,
    Scorer,
    Searcher,
    TreeAh,
    calibrate,
    calibration_queries,
    create_searcher,
    default_num_threads,
    load_searcher,
    scorer_for_size,
    scorer_from_json,
)

# Asked for beyond k, so that of passages that tie at the k-th place it is the first
# ones that are returned, not those that ScaNN met first.
NUM_SPARE = 16


class ScannIndex:
    """ScaNN over one corpus; use `build` or `load`.

    A query's answer does not depend on the others of its batch, bit for bit: ScaNN
    is given one row at a time, on several threads. (A brute-force batch is summed
    in another order: the scores of 32 of 35 hits changed with the batch size.)
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
        # One call at a time: a batch has all of ScaNN's threads already.
        self._searching = threading.Lock()
        if num_threads > 1:
            # The calling thread works too. Zero helpers crash ScaNN 1.4.2.
            searcher.set_num_threads(num_threads - 1)

    @classmethod
    def build(
        cls,
        passages: Sequence[Passage],
        encoder: Encoder,
        *,
        scorer: Scorer | None = None,
        num_threads: int | None = None,
    ) -> "ScannIndex":
        """Encodes the passages and trains ScaNN on them.

        ScaNN's training takes no seed: two trees over one corpus differ in what they
        miss. A saved index always answers the same; runs to compare must share one.

        Args:
          scorer: None chooses by the number of passages and, for a tree, measures on
            titles how many leaves recall@5 needs.
          num_threads: of training and search; None is half of the host's cores.
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
        """Up to k hits per query, best first; none where no word is known."""
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
        encoder: Encoder | None = None,
        num_threads: int | None = None,
    ) -> "ScannIndex":
        """Reads a saved index; a corpus or an encoder other than given is refused."""
        stored = read_index(
            Path(folder),
            kind=cls.kind,
            corpus_fingerprint=corpus_fingerprint,
            encoder=encoder,
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
        """Positions and scores, [Q, candidates]; NaN where there was none."""
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


def build_index(
    passages: Sequence[Passage],
    encoder: Encoder,
    *,
    scorer: Scorer | None = None,
    num_threads: int | None = None,
    platform: str = sys.platform,
) -> ScannIndex | ExactIndex:
    """A ScannIndex on Linux; elsewhere, where ScaNN has no wheels, an ExactIndex.

    `.kind` of what is returned says which. A tree asked for by `scorer` is refused
    where there is no ScaNN.
    """
    if platform == "linux":
        return ScannIndex.build(
            passages, encoder, scorer=scorer, num_threads=num_threads
        )
    if scorer not in (None, BruteForce()):
        raise ValueError(
            f"there is no ScaNN on {platform}, so no {scorer}; leave scorer out"
        )
    return ExactIndex(passages, encoder)


def load_index(
    folder: str | Path,
    *,
    corpus_fingerprint: str | None = None,
    encoder: Encoder | None = None,
    query_device: QueryDevice = "host",
) -> ScannIndex | ExactIndex:
    """Reads an index of either kind, with the checks of its `load`.

    Args:
      query_device: of the saved encoder, where none is given.
    """
    kinds = {kind.kind: kind for kind in (ScannIndex, ExactIndex)}
    found = Manifest.read(Path(folder)).kind
    if found not in kinds:
        raise ValueError(
            f"index {folder}: expected a kind among {sorted(kinds)}, found {found!r}"
        )
    if encoder is None:
        encoder = load_encoder(Path(folder) / "encoder", query_device=query_device)
    return kinds[found].load(
        folder, corpus_fingerprint=corpus_fingerprint, encoder=encoder
    )
