"""The interface of retrievers, which answer search queries."""

import dataclasses
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage and how well it matches (cosine, larger is better)."""

    passage: Passage
    score: float


@runtime_checkable
class Retriever(Protocol):
    """An object that answers batches of queries.

    Several threads may call it at once.
    """

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """One list of up to k hits for each query, best first.

        Raises:
          SearchError: if it cannot answer at the moment. Any other exception is treated
            in the same way, as a failed attempt.
        """
        ...
