"""Search by vectors and by words together, fused by reciprocal rank."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from jaxsearch.search.bm25_index import Bm25Index, open_postings
from jaxsearch.search.dense_index import DenseIndex
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.fusion import Fusion, fused, fusion_from_json
from jaxsearch.search.index import Hit, Retriever
from jaxsearch.search.index_folder import StoredIndex
from jaxsearch.search.nearest import Nearest, best, check_k, hits_of, needed_encoder
from jaxsearch.search.scann_index import ScannIndex

HYBRID = "hybrid"
OpenDense = Callable[[StoredIndex, str, Mapping[str, Any]], DenseIndex]
"""Opens the vectors of a folder, of this kind with these settings."""


class HybridIndex:
    """An index of vectors and one of words, over the same passages.

    The score of a hit is that of its fused ranks. Neither index's answer depends on the
    other queries of a batch, so this one's does not.

    Args:
      dense: the index of vectors, whose encoder is that of queries.
      lexical: the index of words.
      fusion: how their rankings become one.
    """

    kind: ClassVar[str] = HYBRID

    def __init__(self, dense: DenseIndex, lexical: Bm25Index, fusion: Fusion):
        if len(dense.passages) != len(lexical.passages):
            raise ValueError(
                f"a hybrid's two indexes must have the same passages, got "
                f"{len(dense.passages):,} and {len(lexical.passages):,}"
            )
        self.dense, self.lexical, self.fusion = dense, lexical, fusion
        self.passages = dense.passages
        self.encoder = dense.encoder
        self.vectors = dense.vectors
        self.corpus_fingerprint = dense.corpus_fingerprint
        self.corpora = dense.corpora
        self.reason = dense.reason

    def __repr__(self) -> str:
        return f"HybridIndex({self.dense!r}, {self.lexical!r})"

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first; none for a blank query."""
        check_k(k)
        vectors = needed_encoder(self.encoder).encode_queries(queries)
        return self.search_encoded(queries, vectors, k)

    def search_encoded(
        self, queries: Sequence[str], vectors: Float32[np.ndarray, "Q dims"], k: int
    ) -> list[list[Hit]]:
        """As `search`, of queries that are encoded already."""
        found = self.nearest(queries, vectors, k)
        return hits_of(found, self.passages, self.corpora)

    def nearest(
        self, queries: Sequence[str], vectors: Float32[np.ndarray, "Q dims"], k: int
    ) -> list[Nearest]:
        """Positions and scores of the best passages; reads no passage.

        Args:
          queries: their texts.
          vectors: their vectors.
          k: passages per query; as many of each ranking are fused, if that is more
            than the fusion's depth.
        """
        depth = max(self.fusion.depth, k)
        rankings = zip(
            self.dense.nearest(vectors, depth),
            self.lexical.nearest(queries, depth),
            strict=True,
        )
        return [
            best(
                *fused(
                    [one.positions for one in pair],
                    self.fusion.weights,
                    self.fusion.constant,
                ),
                k,
            )
            for pair in rankings
        ]

    def with_fusion(self, **changes: float | int) -> "HybridIndex":
        """The same two indexes, with other settings of `Fusion`."""
        fusion = dataclasses.replace(self.fusion, **changes)
        return HybridIndex(self.dense, self.lexical, fusion)

    def scorer_json(self) -> dict[str, Any]:
        """Settings of the search, for the manifest."""
        return hybrid_json(
            self.dense.kind,
            self.dense.scorer_json(),
            self.lexical.scorer_json(),
            self.fusion,
        )


def fused_otherwise(
    index: Retriever, changes: Mapping[str, float | int]
) -> HybridIndex:
    """A hybrid with other settings of `Fusion`.

    Raises:
      ValueError: if the index is no hybrid, or a setting is out of range.
    """
    if not isinstance(index, HybridIndex):
        raise ValueError(
            f"{index!r} has no settings of a hybrid; build it with `jaxsearch index "
            "build --hybrid`, or leave the options out"
        )
    return index.with_fusion(**changes)


def hybrid_json(
    dense_kind: str,
    dense_scorer: dict[str, Any],
    lexical: dict[str, Any],
    fusion: Fusion,
) -> dict[str, Any]:
    """Settings of a hybrid for the manifest, which `open_hybrid` reads."""
    return {
        "name": HYBRID,
        "dense": {"kind": dense_kind, "scorer": dense_scorer},
        "lexical": lexical,
        "fusion": fusion.to_json(),
    }


def open_hybrid(stored: StoredIndex, open_dense: OpenDense) -> HybridIndex:
    """Opens an index of kind hybrid.

    Args:
      stored: the folder.
      open_dense: opens its vectors.

    Raises:
      ValueError: if its files or settings are damaged.
    """
    where = f"{stored.folder}/index.json"
    scorer = stored.manifest.scorer
    dense, lexical = scorer.get("dense"), scorer.get("lexical")
    is_readable = (
        isinstance(dense, dict)
        and dense.get("kind") in (ExactIndex.kind, ScannIndex.kind)
        and isinstance(dense.get("scorer"), dict)
        and isinstance(lexical, dict)
    )
    if not is_readable:
        raise ValueError(
            f"{where}: expected a hybrid's dense and lexical settings, found "
            f"{scorer!r:.200}; rebuild the index"
        )
    return HybridIndex(
        open_dense(stored, dense["kind"], dense["scorer"]),
        open_postings(stored, lexical),
        fusion_from_json(scorer.get("fusion"), where),
    )
