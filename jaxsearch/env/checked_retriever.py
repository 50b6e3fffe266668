"""A retriever whose answers are checked, and whose failures are all `SearchError`s."""

from collections.abc import Sequence

from jaxsearch.env.answer_checks import FailedSearchError, checked_hits, failure_kind
from jaxsearch.search.index import Hit, Retriever, SearchError, SearchStoppedError

_MAX_REASON_LEN = 200  # characters: a server may send a whole page


class CheckedRetriever:
    """Turns any failure of a retriever into a `SearchError`.

    This is the only place where any exception is expected: a retriever is a program of
    the user or of a server, whose libraries raise what they like, and a run of days
    must not end because one search did. Nothing is hidden: failures are counted by
    kind, and the reason is kept with the rollout.

    Args:
      retriever: the retriever that answers the queries.
    """

    def __init__(self, retriever: Retriever):
        self._retriever = retriever

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first.

        Raises:
          SearchError: if the retriever fails, or its answer is not hits.
          SearchStoppedError: of the retriever.
        """
        try:
            return checked_hits(self._retriever.search(queries, k), len(queries), k)
        except (SearchError, SearchStoppedError):
            raise
        except Exception as error:
            raise FailedSearchError(reason_of(error), failure_kind(error)) from error


def reason_of(error: Exception) -> str:
    """An error on one line of bounded length."""
    text = str(error)
    if not isinstance(error, SearchError):
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split())[:_MAX_REASON_LEN]
