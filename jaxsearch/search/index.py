"""The interface of retrievers, which answer search queries."""

import dataclasses
import http.client
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxsearch.search.passages import Passage


class SearchError(Exception):
    """A retriever cannot answer at the moment; the message gives the reason."""


class RefusedSearchError(SearchError):
    """A retriever refuses a search, and would refuse it again."""


class BusySearchError(SearchError):
    """A retriever cannot answer before some time has passed.

    Attributes:
      retry_after_s: seconds after which it can be asked again.
    """

    def __init__(self, message: str, retry_after_s: float):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SearchStoppedError(ValueError):
    """No search can be answered until the user acts: a budget or a quota is used up.

    It stops a run, which saves its last step. The message says what to do.
    """


# Exceptions of a retriever that is unreachable or overloaded. OSError covers refused
# and broken connections, timeouts and all of urllib; HTTPException covers truncated
# replies.
RETRIEVER_ERRORS = (SearchError, OSError, http.client.HTTPException)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage and how well it matches (cosine, larger is better).

    Attributes:
      corpus: name of its corpus, if the index has several.
    """

    passage: Passage
    score: float
    corpus: str = ""


class Unanswered(list[Hit]):
    """No hits, because this query of a batch cannot be answered.

    To a caller that does not ask, it is an empty list. The search of an environment
    counts as failed.

    Attributes:
      reason: why, on one line.
    """

    def __init__(self, reason: str):
        super().__init__()
        self.reason = reason


@runtime_checkable
class CountingRetriever(Protocol):
    """A retriever that counts what it does."""

    def search_counts(self) -> dict[str, float]:
        """Counts since it was opened, by the name of their metric.

        One whose name ends in /open is not a sum, but how it is now: 0 or 1.
        """
        ...


@runtime_checkable
class RerankingRetriever(Protocol):
    """A retriever whose candidates are put in order again by a reranker."""

    def search_reranked(
        self, queries: Sequence[str], k: int, *, num_candidates: int
    ) -> list[list[Hit]]:
        """Up to k hits per query, the best of this many candidates, best first.

        Raises:
          SearchStoppedError, SearchError: as `Retriever.search`.
        """
        ...


@runtime_checkable
class Retriever(Protocol):
    """An object that answers batches of queries.

    Several threads may call it at once.
    """

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """One list of up to k hits for each query, best first.

        A query that would fail again may have an `Unanswered` in place of a list.

        Raises:
          SearchStoppedError: if the user must act.
          SearchError: if it cannot answer at the moment. Any other exception is treated
            in the same way, as a failed attempt.
        """
        ...
