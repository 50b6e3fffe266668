"""Search by vectors and by words together, fused by reciprocal rank."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from jaxsearch.search.bm25_index import Bm25Index, open_postings
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.exact_index import best_hits, check_k
from jaxsearch.search.fusion import Fusion, fused
from jaxsearch.search.index import Hit
from jaxsearch.search.index_folder import StoredIndex
from jaxsearch.search.passages import Passage


@runtime_checkable  # for the annotation checks of the tests
class DenseIndex(Protocol):
    """The used part of an index of vectors."""

    passages: Sequence[Passage]
    encoder: Encoder
    corpus_fingerprint: str

    def nearest(
        self, vectors: Float32[np.ndarray, "Q dims"], k: int
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Positions and scores of up to k passages per query, best first."""
        ...
