"""Requests that wait are searched together, in threads beside the event loop."""

import asyncio
import collections
import contextlib
import logging
import threading
from collections.abc import Sequence

from jaxsearch.search.index import (
    RETRIEVER_ERRORS,
    CountingRetriever,
    Hit,
    RerankingRetriever,
    Retriever,
    SearchStoppedError,
    Unanswered,
)
from jaxsearch.serve.jobs import (
    DefectError,
    Depth,
    Job,
    QueueFullError,
    Render,
    Slice,
    StoppingError,
    UnansweredError,
    UnavailableError,
    resolve,
    resolve_all,
)
from jaxsearch.serve.metrics import IndexMetrics
from jaxsearch.visible import visible_traceback

LOG = logging.getLogger(__name__)


class Batcher:
    """A queue of requests for one retriever, and the threads that answer them.

    A batch takes queries of the same depth from as many requests as fit, the oldest
    first. A request with more queries than a batch continues after the others, so that
    small requests do not wait for the whole of a large one.

    Args:
      retriever: answers the batches, in `num_workers` threads.
      max_batch: queries per batch.
      max_waiting: queries that may wait.
    """

    def __init__(
        self,
        retriever: Retriever,
        metrics: IndexMetrics,
        *,
        max_batch: int,
        max_waiting: int,
        num_workers: int = 1,
    ):
        self._retriever = retriever
        self._metrics = metrics
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._jobs: collections.deque[Job] = collections.deque()
        self._unanswered: set[Job] = set()
        self.num_waiting = 0
        self.num_workers = num_workers
        self.num_busy = 0
        for _ in range(num_workers):
            # Daemons, so that a call that hangs does not keep the process alive.
            threading.Thread(target=self._work, daemon=True).start()

    @property
    def has_reranker(self) -> bool:
        """Whether a number of candidates may be asked for."""
        return isinstance(self._retriever, RerankingRetriever)

    @property
    def counts(self) -> dict[str, float]:
        """What the retriever itself counts."""
        counting = isinstance(self._retriever, CountingRetriever)
        return self._retriever.search_counts() if counting else {}

    def submit(self, queries: Sequence[str], depth: Depth, render: Render) -> Job:
        """Queues the queries of a request; called in the event loop.

        Raises:
          QueueFullError: if too many queries wait.
        """
        answer = asyncio.get_running_loop().create_future()
        job = Job(queries, depth, render, answer)
        with self._changed:
            if self.num_waiting + len(queries) > self._max_waiting:
                raise QueueFullError
            self.num_waiting += len(queries)
            self._jobs.append(job)
            self._unanswered.add(job)
            self._changed.notify()
        return job

    def drop(self, job: Job) -> None:
        """Forgets a request that is answered, or whose client does not wait for it.

        Called in the event loop.
        """
        with self._changed:
            self._drop(job)
        # asyncio prints the error of a future that is deleted before anyone reads it.
        if not job.answer.cancel() and not job.answer.cancelled():
            job.answer.exception()

    def stop(self) -> None:
        """Refuses the requests without an answer; called in the event loop."""
        with self._changed:
            jobs = list(self._unanswered)
        for job in jobs:
            resolve(job, StoppingError())

    def _drop(self, job: Job) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
            self.num_waiting -= len(job.queries) - job.num_taken
        self._unanswered.discard(job)
        job.is_dropped = True

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    self._changed.wait()
                batch = self._take()
                self.num_busy += 1
            results = self._searched(batch)
            with self._changed:
                self.num_busy -= 1
            if results:
                # The loop is closed if the server ended during the search.
                with contextlib.suppress(RuntimeError):
                    loop = results[0][0].answer.get_loop()
                    loop.call_soon_threadsafe(resolve_all, results)

    def _take(self) -> list[Slice]:
        """Takes a batch from the queue, whose lock is held."""
        depth, room = self._jobs[0].depth, self._max_batch
        batch: list[Slice] = []
        others: list[Job] = []
        unfinished: list[Job] = []
        while self._jobs and room:
            job = self._jobs.popleft()
            if job.depth != depth:
                others.append(job)
                continue
            start = job.num_taken
            job.num_taken = min(start + room, len(job.queries))
            batch.append(Slice(job=job, start=start, stop=job.num_taken))
            room -= job.num_taken - start
            if job.num_taken < len(job.queries):
                unfinished.append(job)
        self._jobs.extendleft(reversed(others))
        self._jobs.extend(unfinished)
        self.num_waiting -= self._max_batch - room
        if self._jobs:
            self._changed.notify()
        return batch

    def _searched(self, batch: list[Slice]) -> list[tuple[Job, bytes | Exception]]:
        """Searches a batch; returns the jobs that are finished by it."""
        queries = [query for part in batch for query in part.queries]
        try:
            with self._metrics.timed_batch(len(queries)):
                found = self._found(queries, batch[0].job.depth)
            if len(found) != len(queries):
                raise ValueError(
                    f"expected the hits of {len(queries)} queries, got {len(found)}"
                )
        except SearchStoppedError as error:
            self._metrics.add_failure()
            return self._failed(batch, error)
        except RETRIEVER_ERRORS as error:
            self._metrics.add_failure()
            reason = " ".join(str(error).split()) or type(error).__name__
            return self._failed(batch, UnavailableError(reason))
        except Exception as error:  # a retriever of a user's own may raise anything
            if len(batch) > 1:
                # The answer to a request does not depend on the others of its batch.
                return [done for part in batch for done in self._searched([part])]
            self._metrics.add_failure()
            _log("the retriever failed", error)
            return self._failed(batch, DefectError(type(error).__name__))
        return [(job, _rendered(job)) for job in self._finished(batch, found)]

    def _found(self, queries: Sequence[str], depth: Depth) -> list[list[Hit]]:
        if depth.num_candidates is None:
            return self._retriever.search(queries, depth.k)
        assert isinstance(self._retriever, RerankingRetriever)
        return self._retriever.search_reranked(
            queries, depth.k, num_candidates=depth.num_candidates
        )

    def _finished(self, batch: list[Slice], found: list[list[Hit]]) -> list[Job]:
        """Writes the hits into the jobs; returns those that have all of theirs."""
        finished: list[Job] = []
        row = 0
        for part in batch:
            job, num = part.job, part.stop - part.start
            job.hits[part.start : part.stop] = found[row : row + num]
            row += num
            with self._changed:
                job.num_searched += num
                if job.num_searched == len(job.queries) and not job.is_dropped:
                    finished.append(job)
        return finished

    def _failed(
        self, batch: list[Slice], error: Exception
    ) -> list[tuple[Job, bytes | Exception]]:
        with self._changed:
            for part in batch:
                self._drop(part.job)
        return [(part.job, error) for part in batch]


def _rendered(job: Job) -> bytes | Exception:
    reasons = [hits.reason for hits in job.hits if isinstance(hits, Unanswered)]
    num_asked = sum(1 for query in job.queries if query.strip())
    if reasons and len(reasons) == num_asked:
        return UnansweredError(" ".join(reasons[0].split()))
    try:
        return job.render(job.hits)
    except Exception as error:  # a retriever of a user's own may return anything
        _log("the retriever's hits cannot be sent", error)
        return DefectError(type(error).__name__)


def _log(message: str, error: Exception) -> None:
    """Logs an error with its traceback.

    Its text may be that of a stranger's server, and the log may be a terminal, which
    would obey it.
    """
    LOG.error("%s\n%s", message, visible_traceback(error))
