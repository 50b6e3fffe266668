"""What an index is, whatever answers behind it."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxsearch.search.passages import Passage


class SearchError(Exception):
    """An index cannot answer now; its text says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage and how well it matches (cosine, larger is better)."""

    passage: Passage
    score: float


@runtime_checkable
class Index(Protocol):
    """Anything that answers a batch of queries, and bears several calls at once."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Up to k hits per query, best first; a blank query has none.

        Errors: SearchError, and what its connection raises (`retries`).
        """
        ...
