"""Exact search: the reference for other indexes, and the index without ScaNN."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32, Integer

from jaxsearch.search.array_files import read_array
from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.encoder_options import QueryDevice
from jaxsearch.search.index import Hit
from jaxsearch.search.index_folder import REBUILD, read_index, write_index
from jaxsearch.search.passages import Passage, corpus_fingerprint

# Scores that are equal to this many decimals are ties: float32 sums in a different
# order differ by less.
SCORE_DECIMALS = 6


class ExactIndex:
    """An index that compares each query with every passage.

    Among scores that are equal to six decimals, the passage that comes first in the
    corpus wins. Queries are compared one at a time, so that the answer to a query does
    not depend on its batch.
    """

    kind: ClassVar[str] = "exact"

    def __init__(
        self,
        passages: Sequence[Passage],
        encoder: Encoder,
        vectors: Float32[np.ndarray, "P dims"] | None = None,
    ):
        """Encodes the passages unless their vectors are given."""
        self.passages = list(passages)
        self.encoder = encoder
        if vectors is None:
            vectors = encode_corpus(self.passages, encoder)
        self._vectors = vectors
        self.corpus_fingerprint = corpus_fingerprint(self.passages)

    def __repr__(self) -> str:
        return f"ExactIndex({len(self.passages):,} passages, {self.encoder.name})"

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first; none if its vector is zero."""
        check_k(k)
        positions = np.arange(len(self.passages))
        return [
            best_hits(self.passages, positions, self._vectors @ query, k)
            if query.any()
            else []
            for query in self.encoder.encode_queries(queries)
        ]

    def save(self, folder: str | Path) -> None:
        """Writes the index to a new folder."""
        write_index(
            Path(folder),
            kind=self.kind,
            passages=self.passages,
            corpus_fingerprint=self.corpus_fingerprint,
            encoder=self.encoder,
            scorer={"name": "exact"},
            write_vectors=lambda to: np.save(to / "vectors.npy", self._vectors),
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        corpus_fingerprint: str | None = None,
        encoder: Encoder | EncoderFactory | None = None,
        query_device: QueryDevice = "host",
    ) -> "ExactIndex":
        """Reads a saved index; the arguments are those of `read_index`."""
        stored = read_index(
            Path(folder),
            kind=cls.kind,
            corpus_fingerprint=corpus_fingerprint,
            encoder=encoder,
            query_device=query_device,
        )
        path = stored.vectors / "vectors.npy"
        try:
            vectors = read_array(path)
        except ValueError as error:
            raise ValueError(f"{error}; {REBUILD}") from error
        expected = (stored.manifest.num_passages, stored.manifest.dims)
        if vectors.shape != expected:
            raise ValueError(
                f"index {folder}: expected vectors {expected}, found {vectors.shape}; "
                "rebuild it"
            )
        return cls(stored.passages, stored.encoder, vectors)


class EmptyIndex:
    """An index that finds nothing, to measure a policy without passages."""

    kind: ClassVar[str] = "empty"

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns no hits for each query."""
        check_k(k)
        return [[] for _ in queries]


def encode_corpus(
    passages: Sequence[Passage], encoder: Encoder
) -> Float32[np.ndarray, "P dims"]:
    """Encodes the passages and checks the vectors.

    Raises:
      ValueError: if there are no passages, or the encoder does not return one finite
        vector per passage.
    """
    if not passages:
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
            f"{passages[bad].id!r}"
        )
    return vectors


def check_k(k: int) -> None:
    """Raises ValueError unless k is at least 1."""
    if k < 1:
        raise ValueError(f"k, the number of hits per query, must be >= 1, got {k}")


def best_hits(
    passages: Sequence[Passage],
    positions: Integer[np.ndarray, " candidates"],
    scores: Float[np.ndarray, " candidates"],
    k: int,
) -> list[Hit]:
    """Returns the k best of the candidates; ties go to the lower position."""
    scores = np.round(scores.astype(np.float64), SCORE_DECIMALS)
    if k < len(scores):
        is_candidate = scores >= np.partition(scores, -k)[-k]
        positions, scores = positions[is_candidate], scores[is_candidate]
    order = np.lexsort((positions, -scores))[:k]
    return [
        Hit(passage=passages[int(positions[i])], score=float(scores[i])) for i in order
    ]
