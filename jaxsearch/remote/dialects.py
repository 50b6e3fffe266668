"""The dialects of search servers: what each is asked, and how its answers are read."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jaxsearch.remote.answers import (
    hits_of,
    line_hits,
    one_per_query,
    scored_hits,
    shown,
    with_unanswered,
)
from jaxsearch.search.index import Hit, SearchError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one kind of server is asked.

    Attributes:
      name: its name in `retrieval.dialect`.
      path: path that is posted to.
      systems: the systems whose servers speak it.
      body: (queries, k) -> JSON of the request.
      read: (JSON of the answer, number of queries, k) -> hits of each query; raises
        SearchError if the answer is malformed.
    """

    name: str
    path: str
    systems: str
    body: Callable[[Sequence[str], int], dict[str, Any]]
    read: Callable[[Any, int, int], list[list[Hit]]]


def _research_body(queries: Sequence[str], k: int) -> dict[str, Any]:
    return {"query": list(queries), "top_n": k, "return_score": True}


def _read_research(answer: Any, num_queries: int, k: int) -> list[list[Hit]]:
    """Reads `[[documents of each query], [scores of each query]]`.

    A server without scores gives the first list alone.
    """
    if not isinstance(answer, list) or not answer:
        raise SearchError(f"expected a list of documents, got {shown(answer)}")
    first = answer[0] if isinstance(answer[0], list) else []
    # Without scores, the first item is the documents of the first query.
    if len(answer) == 2 and first and all(isinstance(one, list) for one in first):
        documents = one_per_query(answer[0], num_queries)
        scores = one_per_query(answer[1], num_queries)
        return [hits_of(*pair, k) for pair in zip(documents, scores, strict=True)]
    return [hits_of(one, None, k) for one in one_per_query(answer, num_queries)]


def _search_r1_body(queries: Sequence[str], k: int) -> dict[str, Any]:
    return {"queries": list(queries), "topk": k, "return_scores": True}


def _read_search_r1(answer: Any, num_queries: int, k: int) -> list[list[Hit]]:
    """Reads `{"result": [[{"document", "score"}]]}`, and jaxsearch's `unanswered`."""
    results = one_per_query(_field(answer, "result"), num_queries)
    found = [scored_hits(one, k) for one in results]
    return with_unanswered(found, answer.get("unanswered", {}))


def _r1_searcher_body(queries: Sequence[str], k: int) -> dict[str, Any]:
    return {"queries": list(queries), "k": k}


def _read_r1_searcher(answer: Any, num_queries: int, k: int) -> list[list[Hit]]:
    """Reads `{"answers": [[line]]}`, and jaxsearch's `unanswered`."""
    answers = one_per_query(_field(answer, "answers"), num_queries)
    found = [line_hits(lines, k) for lines in answers]
    return with_unanswered(found, answer.get("unanswered", {}))


def _field(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise SearchError(f"expected an object with {name!r}, got {shown(answer)}")
    return answer[name]


RESEARCH = Dialect(
    name="research",
    path="/batch_search",
    systems="ReSearch",
    body=_research_body,
    read=_read_research,
)
SEARCH_R1 = Dialect(
    name="search_r1",
    path="/retrieve",
    systems="Search-R1, verl, SkyRL and jaxsearch",
    body=_search_r1_body,
    read=_read_search_r1,
)
R1_SEARCHER = Dialect(
    name="r1_searcher",
    path="/queries",
    systems="R1-Searcher",
    body=_r1_searcher_body,
    read=_read_r1_searcher,
)
DIALECTS = {one.name: one for one in (SEARCH_R1, RESEARCH, R1_SEARCHER)}
