"""A retriever whose best passages are put in order again by a reranker."""

import dataclasses
from collections.abc import Iterator, Sequence

from jaxsearch.search.cross_encoder import Reranker
from jaxsearch.search.exact_index import check_k
from jaxsearch.search.index import Hit, Retriever, Unanswered

DEFAULT_CANDIDATES = 50
MAX_CANDIDATES = 1000


class RerankedRetriever:
    """Asks a retriever for candidates and returns the best ones by a reranker's scores.

    The answer to a query depends on no other query if that is so for the retriever.

    Args:
      retriever: finds the candidates.
      reranker: scores each of them together with the query.
      num_candidates: passages per query that are scored; 10 to 100 are usual. More are
        scored when more hits are asked for.
    """

    def __init__(
        self,
        retriever: Retriever,
        reranker: Reranker,
        *,
        num_candidates: int = DEFAULT_CANDIDATES,
    ):
        if not 1 <= num_candidates <= MAX_CANDIDATES:
            raise ValueError(
                f"the number of candidates per query must be from 1 to "
                f"{MAX_CANDIDATES}, got {num_candidates}"
            )
        self.retriever, self.reranker = retriever, reranker
        self.num_candidates = num_candidates

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first, with the reranker's scores."""
        return self.search_reranked(queries, k, num_candidates=self.num_candidates)

    def search_reranked(
        self, queries: Sequence[str], k: int, *, num_candidates: int
    ) -> list[list[Hit]]:
        """`search` with another number of candidates, Search-R1's `topk_retrieval`."""
        check_k(k)
        found = self.retriever.search(queries, max(k, num_candidates))
        pairs = [
            (query, hit.passage)
            for query, hits in zip(queries, found, strict=True)
            for hit in hits
        ]
        scores = iter(self.reranker.scores(pairs).tolist() if pairs else [])
        return [
            hits if isinstance(hits, Unanswered) else _reordered(hits, scores, k)
            for hits in found
        ]


def _reordered(hits: Sequence[Hit], scores: Iterator[float], k: int) -> list[Hit]:
    """The k hits with the best of the next scores; ties keep their order."""
    scored = [dataclasses.replace(hit, score=next(scores)) for hit in hits]
    return sorted(scored, key=lambda hit: -hit.score)[:k]
