"""The paths of one index."""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

import jaxsearch
from jaxsearch.search.index import SearchStoppedError
from jaxsearch.serve import dialects
from jaxsearch.serve.batcher import Batcher
from jaxsearch.serve.jobs import (
    DefectError,
    Depth,
    Job,
    QueueFullError,
    Render,
    StoppingError,
    UnansweredError,
    UnavailableError,
)
from jaxsearch.serve.limits import Limits
from jaxsearch.serve.served_index import ServedIndex
from jaxsearch.surrogates import check_text

# Search-R1's servers have these in their own settings.
SEARCH_R1_TOPK = 3
SEARCH_R1_CANDIDATES = 10
# Nobody reads this answer: the client has left.
CLIENT_LEFT = 499
# What the answer needs has failed and would fail again: no page can be read, or the
# query is not in the cache of a server that is offline.
NO_ANSWER = 424
# Nothing is searched until the user of the server acts: a budget or a quota is used up.
STOPPED = 402
_SECONDS_BETWEEN_LOOKS = 1.0


def make_router(
    name: str,
    index: ServedIndex,
    batcher: Batcher,
    limits: Limits,
    names: Sequence[str],
) -> APIRouter:
    """The paths of an index in all dialects.

    Args:
      name: of the index.
      index: what `GET /index` describes.
      batcher: the queue of the index.
      limits: bounds of a request.
      names: all indexes of the server.
    """
    router = APIRouter()
    answer = functools.partial(_answer, batcher, limits)

    @router.get("/health", summary="ReSearch: is the server there")
    async def health() -> dict[str, Any]:
        available = batcher.num_workers - batcher.num_busy
        return {
            "status": "healthy",
            "retrievers": {"total": batcher.num_workers, "available": available},
        }

    @router.get("/index", summary="What is served, and what decides its answers")
    async def describe() -> dict[str, Any]:
        return _description(name, index, names)

    @router.post("/search", summary="ReSearch: one query")
    async def search(body: dialects.SearchRequest, request: Request) -> Response:
        if not body.query.strip():
            raise HTTPException(400, "Query content cannot be empty")
        render = functools.partial(dialects.render_search, has_scores=body.return_score)
        return await answer(request, [body.query], Depth(k=body.top_n), render)

    @router.post("/batch_search", summary="ReSearch: several queries")
    async def batch_search(
        body: dialects.BatchSearchRequest, request: Request
    ) -> Response:
        render = functools.partial(
            dialects.render_batch_search, has_scores=body.return_score
        )
        return await answer(request, body.query, Depth(k=body.top_n), render)

    @router.post("/retrieve", summary="Search-R1, verl and SkyRL")
    async def retrieve(body: dialects.RetrieveRequest, request: Request) -> Response:
        is_reranked = (body.topk_retrieval, body.topk_rerank) != (None, None)
        if is_reranked and not batcher.has_reranker:
            raise _refused(
                "topk_retrieval and topk_rerank need an index with a reranker, and "
                f"{name!r} has none; send topk alone"
            )
        render = functools.partial(
            dialects.render_retrieve, has_scores=body.return_scores
        )
        return await answer(request, body.queries, _depth(body), render)

    @router.post("/queries", summary="R1-Searcher")
    async def queries(body: dialects.QueriesRequest, request: Request) -> Response:
        asked = body.queries
        render = functools.partial(dialects.render_queries, queries=asked)
        texts = [asked] if isinstance(asked, str) else asked
        return await answer(request, texts, Depth(k=body.k), render)

    return router


def _description(
    name: str, index: ServedIndex, names: Sequence[str]
) -> Mapping[str, Any]:
    return {
        "server": "jaxsearch",
        "version": jaxsearch.__version__,
        "name": name,
        "names": list(names),
        "num_passages": index.num_passages,
        "fingerprints": dict(index.fingerprints),
        "settings": dict(index.settings),
        "dialects": list(dialects.DIALECTS),
    }


async def _answer(
    batcher: Batcher,
    limits: Limits,
    request: Request,
    queries: Sequence[str],
    depth: Depth,
    render: Render,
) -> Response:
    """Searches the queries of a request, or says in one line why not."""
    _check(queries, depth, limits)
    if not queries:
        return Response(render([]), media_type="application/json")
    try:
        job = batcher.submit(queries, depth, render)
    except QueueFullError:
        raise _unavailable(
            f"{batcher.num_waiting} queries wait already; try again later", 1
        ) from None
    try:
        body = await _result(job, request, limits.answer_s)
    except UnavailableError as error:
        raise _unavailable(f"the index cannot answer now: {error}", 5) from error
    except UnansweredError as error:
        raise HTTPException(NO_ANSWER, f"no query can be answered: {error}") from None
    except SearchStoppedError as error:
        raise HTTPException(STOPPED, str(error)) from None
    except StoppingError:
        raise _unavailable("the server is stopping", 5) from None
    except DefectError as error:
        raise HTTPException(
            500, f"the index failed ({error}); the server's log has the reason"
        ) from error
    finally:
        batcher.drop(job)
    return Response(body, media_type="application/json")


async def _result(job: Job, request: Request, seconds: float) -> bytes:
    """The body of a job's answer, unless it takes too long or the client leaves."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        wait_s = min(_SECONDS_BETWEEN_LOOKS, end - loop.time())
        done, _ = await asyncio.wait({job.answer}, timeout=max(wait_s, 0.0))
        if done:
            return job.answer.result()
        if await request.is_disconnected():
            raise HTTPException(CLIENT_LEFT, "the client has left")
        if loop.time() >= end:
            raise HTTPException(504, f"no answer within {seconds:g} s")


def _depth(body: dialects.RetrieveRequest) -> Depth:
    """How many passages a request of Search-R1's dialect wants."""
    topk = body.topk or SEARCH_R1_TOPK
    if body.topk_retrieval is None and body.topk_rerank is None:
        return Depth(k=topk)
    k = topk if body.topk_rerank is None else body.topk_rerank
    candidates = body.topk_retrieval
    if candidates is None:
        candidates = max(k, SEARCH_R1_CANDIDATES)
    if candidates < k:
        raise _refused(
            f"topk_retrieval must be at least topk_rerank, got {str(candidates)[:20]} "
            f"and {str(k)[:20]}"
        )
    return Depth(k=k, num_candidates=candidates)


def _check(queries: Sequence[str], depth: Depth, limits: Limits) -> None:
    """Raises HTTPException for a request that is too large, or that is not text."""
    k = depth.most if depth.k >= 1 else depth.k
    if not 1 <= k <= limits.max_k:
        raise _refused(
            f"the number of passages per query must be from 1 to {limits.max_k}, got "
            f"{str(k)[:20]}"
        )
    if len(queries) > limits.max_queries:
        raise _refused(
            f"at most {limits.max_queries} queries per request, got {len(queries)}"
        )
    if len(queries) * k > limits.max_passages:
        raise _refused(
            f"at most {limits.max_passages} passages per request, got {len(queries)} "
            f"queries with {k} each"
        )
    for number, query in enumerate(queries, start=1):
        if len(query) > limits.max_query_chars:
            raise _refused(
                f"at most {limits.max_query_chars} characters per query, got "
                f"{len(query)} in query {number}"
            )
        try:
            check_text(query, f"query {number}")
        except ValueError as error:
            raise _refused(str(error)) from None


def _refused(reason: str) -> HTTPException:
    return HTTPException(422, reason)


def _unavailable(reason: str, retry_after: int) -> HTTPException:
    return HTTPException(503, reason, headers={"Retry-After": str(retry_after)})
