"""Common parts of vector indexes: contents, search by text, saving."""

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from jaxsearch.search.encoder import Encoder
from jaxsearch.search.index import Hit
from jaxsearch.search.index_folder import Corpora, write_index
from jaxsearch.search.nearest import Nearest, check_k, hits_of, needed_encoder
from jaxsearch.search.passages import Passage
from jaxsearch.search.vector_shards import VectorShards


class DenseIndex(abc.ABC):
    """Base class of vector indexes; subclasses find the nearest vectors.

    Args:
      passages: the corpus.
      encoder: encodes queries; None if all queries are vectors.
      vectors: vectors of the passages.
      corpus_fingerprint: fingerprint of the passages.
      corpora: names of the corpora, if there are several.
      reason: the reason for this kind of index.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        passages: Sequence[Passage],
        encoder: Encoder | None,
        vectors: VectorShards,
        *,
        corpus_fingerprint: str,
        corpora: Corpora | None,
        reason: str,
    ):
        check_count(passages, len(vectors))
        self.passages = passages
        self.encoder = encoder
        self.vectors = vectors
        self.corpus_fingerprint = corpus_fingerprint
        self.corpora = corpora or Corpora()
        self.reason = reason

    def __repr__(self) -> str:
        name = "no encoder" if self.encoder is None else self.encoder.name
        return f"{type(self).__name__}({len(self.passages):,} passages, {name})"

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first; none if its vector is zero."""
        check_k(k)
        return self.search_vectors(
            needed_encoder(self.encoder).encode_queries(queries), k
        )

    def search_vectors(
        self, vectors: Float32[np.ndarray, "Q dims"], k: int
    ) -> list[list[Hit]]:
        """Like `search`, for queries that are already encoded."""
        return hits_of(self.nearest(vectors, k), self.passages, self.corpora)

    @abc.abstractmethod
    def nearest(self, vectors: Float32[np.ndarray, "Q dims"], k: int) -> list[Nearest]:
        """Positions and scores of the k nearest passages found; reads no passage."""

    @abc.abstractmethod
    def scorer_json(self) -> dict[str, Any]:
        """Settings of the search, for the manifest."""

    def save(self, folder: str | Path) -> None:
        """Writes the index to a new folder."""
        write_index(
            Path(folder),
            kind=self.kind,
            passages=self.passages,
            corpus_fingerprint=self.corpus_fingerprint,
            encoder=self.encoder,
            scorer=self.scorer_json(),
            vectors=self.vectors,
            write_more=self.save_more,
            reason=self.reason,
        )

    @abc.abstractmethod
    def save_more(self, folder: Path) -> None:
        """Writes the files of this kind of index, besides passages and vectors."""


def check_count(passages: Sequence[Passage], num_vectors: int) -> None:
    """Raises ValueError unless there is one vector per passage."""
    if num_vectors != len(passages):
        raise ValueError(
            f"expected one vector per passage, got {num_vectors} vectors for "
            f"{len(passages)} passages; rebuild the index"
        )
