"""Checks of what a retriever answers, and the kinds of its failures."""

from collections.abc import Sequence
from typing import Any

from jaxsearch.search.index import RETRIEVER_ERRORS, Hit, SearchError, Unanswered
from jaxsearch.search.passages import Passage
from jaxsearch.surrogates import check_text

UNAVAILABLE = "unavailable"  # it says that it cannot answer
CONNECTION = "connection"  # it cannot be reached
TIMEOUT = "timeout"
MALFORMED = "malformed"  # it answered with something else than hits
DEFECT = "defect"  # it raised anything else
FAILURE_KINDS = (UNAVAILABLE, CONNECTION, TIMEOUT, MALFORMED, DEFECT)


class MalformedAnswerError(SearchError):
    """An answer is not one list of hits for each query."""


class NoAnswerInTimeError(SearchError):
    """There is no answer within the time limit."""


class FailedSearchError(SearchError):
    """A retriever has raised another exception than a `SearchError`.

    Attributes:
      kind: one of `FAILURE_KINDS`.
    """

    def __init__(self, message: str, kind: str):
        super().__init__(message)
        self.kind = kind


def failure_kind(error: Exception) -> str:
    """The kind of a failed attempt, one of `FAILURE_KINDS`."""
    if isinstance(error, FailedSearchError):
        return error.kind
    if isinstance(error, NoAnswerInTimeError | TimeoutError):
        return TIMEOUT
    if isinstance(error, MalformedAnswerError):
        return MALFORMED
    if isinstance(error, SearchError):
        return UNAVAILABLE
    if isinstance(error, RETRIEVER_ERRORS):
        return CONNECTION
    return DEFECT


def checked_hits(answers: Any, num_queries: int, k: int) -> list[list[Hit]]:
    """The answer of a retriever, if it is one list of at most k hits per query.

    Raises:
      MalformedAnswerError: if it is not, or a passage has an id or contents that are
        not text.
    """
    if not _is_list(answers):
        raise MalformedAnswerError(f"expected a list, got {type(answers).__name__}")
    if len(answers) != num_queries:
        raise MalformedAnswerError(
            f"{len(answers)} lists of hits for {num_queries} queries"
        )
    for hits in answers:
        if not _is_list(hits):
            raise MalformedAnswerError(
                f"expected a list of hits, got {type(hits).__name__}"
            )
        if len(hits) > k:
            raise MalformedAnswerError(
                f"{len(hits)} hits for a query, at most {k} were asked for"
            )
        for hit in hits:
            _check_hit(hit)
    return [hits if isinstance(hits, Unanswered) else list(hits) for hits in answers]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _check_hit(hit: Any) -> None:
    if not isinstance(hit, Hit) or not isinstance(hit.passage, Passage):
        raise MalformedAnswerError(f"expected a Hit of a Passage, got {hit!r:.80}")
    for name, text in (("id", hit.passage.id), ("contents", hit.passage.contents)):
        if not isinstance(text, str):
            raise MalformedAnswerError(
                f"the {name} of a passage must be a string, got {text!r:.80}"
            )
        try:
            check_text(text, f"the {name} of a passage")
        except ValueError as error:
            raise MalformedAnswerError(str(error)) from None
