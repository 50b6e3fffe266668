"""The interface of web search providers."""

import dataclasses
from collections.abc import Callable, Sequence

from jaxsearch.search.index import SearchError


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebQuery:
    """A query to a provider.

    Attributes:
      text: the query, with the filter `site:` if there is one; one line.
      num_results: number of results that are wanted.
      date_limit: day (YYYY-MM-DD) after which pages are not wanted; "" for any.
      timeout_s: seconds in which the provider has to answer.
      use_proxy: whether connections go through the proxy that the environment names.
    """

    text: str
    num_results: int = 10
    date_limit: str = ""
    timeout_s: float = 10.0
    use_proxy: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebResult:
    """One line of a page of results."""

    url: str
    title: str = ""
    snippet: str = ""


WebProvider = Callable[[WebQuery], Sequence[WebResult]]
"""Finds pages. It raises SearchError if it cannot answer at the moment,
RateLimitError if it is asked too often, BadQueryError for a query that it will never
answer, and SearchStoppedError if the user must act."""


class RateLimitError(SearchError):
    """A provider is asked too often, but will answer later.

    Attributes:
      retry_after_s: seconds that it asks to wait; None if it does not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BadQueryError(SearchError):
    """A provider refuses this query, and would refuse it again."""
