"""The requests and answers of ReSearch, Search-R1 and R1-Searcher.

The answers are made query by query: one call of `json.dumps` for a large answer would
hold Python's lock, and with it the event loop, until its end.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, Field, StrictInt

from jaxsearch.search.index import Hit, Unanswered
from jaxsearch.search.passages import Passage

DIALECTS = ("search_r1", "research", "r1_searcher")


class SearchRequest(BaseModel):
    """ReSearch's `POST /search`."""

    query: str
    top_n: int = 10
    return_score: bool = False


class BatchSearchRequest(BaseModel):
    """ReSearch's `POST /batch_search`."""

    query: list[str]
    top_n: int = 10
    return_score: bool = False


class RetrieveRequest(BaseModel):
    """Search-R1's `POST /retrieve`, also used by verl and SkyRL."""

    queries: list[str]
    topk: int | None = Field(None, description="0 and null mean 3")
    return_scores: bool = False
    topk_retrieval: int | None = Field(
        None, description="candidates of an index with a reranker; null means 10"
    )
    topk_rerank: int | None = Field(
        None, description="those of them that are returned, in place of topk"
    )


class QueriesRequest(BaseModel):
    """R1-Searcher's `POST /queries`."""

    queries: list[str] | str
    k: StrictInt = 3


def render_search(found: Sequence[list[Hit]], *, has_scores: bool) -> bytes:
    """ReSearch's answer to one query: documents, or [documents, scores]."""
    [hits] = found
    if not has_scores:
        return _json_list([_documents(hits)])[1:-1]
    return _json_list([_documents(hits), _scores(hits)])


def render_batch_search(found: Sequence[list[Hit]], *, has_scores: bool) -> bytes:
    """ReSearch's answer: documents of each query, or [documents, scores] of all."""
    documents = _json_list(map(_documents, found))
    if not has_scores:
        return documents
    return b"[" + documents + b"," + _json_list(map(_scores, found)) + b"]"


def render_retrieve(found: Sequence[list[Hit]], *, has_scores: bool) -> bytes:
    """Search-R1's answer: documents of each query, with scores or without."""
    parts = map(_scored_documents if has_scores else _documents, found)
    return b'{"result":' + _json_list(parts) + _unanswered(found) + b"}"


def render_queries(found: Sequence[list[Hit]], *, queries: list[str] | str) -> bytes:
    """R1-Searcher's answer: lines of each query, and the queries as they came."""
    answers = _json_list([_line(hit.passage) for hit in hits] for hits in found)
    asked = b',"queries":' + _json(queries)
    return b'{"answers":' + answers + asked + _unanswered(found) + b"}"


def _unanswered(found: Sequence[list[Hit]]) -> bytes:
    """The reasons of queries without an answer, by the query's number from 0 on."""
    reasons = {
        str(number): hits.reason
        for number, hits in enumerate(found)
        if isinstance(hits, Unanswered)
    }
    return b',"unanswered":' + _json(reasons) if reasons else b""


def _documents(hits: list[Hit]) -> list[dict[str, str]]:
    return [_document(hit.passage) for hit in hits]


def _scores(hits: list[Hit]) -> list[float]:
    return [hit.score for hit in hits]


def _scored_documents(hits: list[Hit]) -> list[dict[str, Any]]:
    return [{"document": _document(hit.passage), "score": hit.score} for hit in hits]


def _document(passage: Passage) -> dict[str, str]:
    return {"id": passage.id, "contents": passage.contents}


def _line(passage: Passage) -> str:
    """A line of R1-Searcher's corpus: id, tab, title, three spaces, text."""
    text = passage.contents
    if "\n" in text:
        text = f"{passage.title}   {' '.join(passage.text.splitlines())}"
    return f"{passage.id}\t{text}"


def _json_list(parts: Iterable[Any]) -> bytes:
    return b"[" + b",".join(map(_json, parts)) + b"]"


def _json(value: Any) -> bytes:
    # NaN is no JSON. Floats are written so that they are read as the same bits.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
