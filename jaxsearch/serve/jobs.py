"""The queries of a request on their way through the queue, and how they may fail."""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence

from jaxsearch.search.index import Hit

# Makes the body of an answer from the hits of each query.
Render = Callable[[Sequence[list[Hit]]], bytes]


class QueueFullError(Exception):
    """Too many queries wait already."""


class StoppingError(Exception):
    """The server is stopping, and this request cannot be answered in time."""


class UnavailableError(Exception):
    """The retriever could not answer; the message gives its reason."""


class UnansweredError(Exception):
    """No query of a request has an answer; the message gives the first reason."""


class DefectError(Exception):
    """The retriever failed in a way that a retriever must not; the log has it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Depth:
    """How many passages are wanted; requests with the same depth share batches.

    Attributes:
      k: passages per query.
      num_candidates: candidates per query for the reranker; None for a plain search.
    """

    k: int
    num_candidates: int | None = None

    @property
    def most(self) -> int:
        """The larger of the two."""
        return max(self.k, self.num_candidates or 0)


@dataclasses.dataclass(eq=False)
class Job:
    """The queries of one request.

    Attributes:
      answer: gets the rendered body, in the event loop.
    """

    queries: Sequence[str]
    depth: Depth
    render: Render
    answer: asyncio.Future[bytes]
    hits: list[list[Hit]] = dataclasses.field(default_factory=list)
    num_taken: int = 0
    num_searched: int = 0
    is_dropped: bool = False

    def __post_init__(self):
        self.hits = [[] for _ in self.queries]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
    """Queries of a job that are searched in one batch."""

    job: Job
    start: int
    stop: int

    @property
    def queries(self) -> Sequence[str]:
        return self.job.queries[self.start : self.stop]


def resolve_all(results: list[tuple[Job, bytes | Exception]]) -> None:
    """Gives jobs their bodies or errors; called in the event loop."""
    for job, result in results:
        resolve(job, result)


def resolve(job: Job, result: bytes | Exception) -> None:
    """Gives a job its body or its error; called in the event loop."""
    # Done already if its client left, or if another batch of the job failed.
    if job.answer.done():
        return
    if isinstance(result, Exception):
        job.answer.set_exception(result)
    else:
        job.answer.set_result(result)
