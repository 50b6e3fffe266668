"""A retriever that repeats searches that fail, hang or return a wrong count."""

import concurrent.futures
import math
import random
import threading
import time
from collections.abc import Mapping, Sequence

from jaxsearch.env.answer_checks import (
    FAILURE_KINDS,
    NoAnswerInTimeError,
    failure_kind,
)
from jaxsearch.env.checked_retriever import CheckedRetriever, reason_of
from jaxsearch.env.daemon_executor import DaemonExecutor
from jaxsearch.search.index import (
    BusySearchError,
    CountingRetriever,
    Hit,
    RefusedSearchError,
    Retriever,
    SearchError,
)

# Shortest pause before the second attempt; twice as long before the third, and so on.
# Pauses are up to half as long again, so that clients that failed together do not ask
# together.
_PAUSE_S = 0.25
LONGEST_PAUSE_S = 60.0
NO_FAILURES: Mapping[str, int] = dict.fromkeys(FAILURE_KINDS, 0)


class RetryingRetriever(CheckedRetriever):
    """Makes up to `attempts` attempts at each search.

    Any exception of the retriever, and any answer that is not hits, is a failed one.

    Several threads may search at once. The pauses between attempts grow to at most a
    minute. A retriever that says how long it is busy is not asked before; if that is
    more than a minute, or it refuses the search, there is no further attempt.

    An attempt that takes longer than `timeout_s` is abandoned but keeps running, in a
    thread that does not keep the process alive. The retriever must therefore accept a
    call while another one hangs.

    Args:
      retriever: the retriever that answers the queries.
      attempts: maximum number of attempts per batch of queries.
      timeout_s: timeout of one attempt, in seconds.

    Attributes:
      num_retries: number of attempts so far, not counting first attempts.
      num_failures: number of failed attempts so far, by kind.

    Raises:
      ValueError: if `attempts` is below 1, or `timeout_s` is not positive and finite.
    """

    def __init__(self, retriever: Retriever, *, attempts: int, timeout_s: float):
        if attempts < 1 or not 0 < timeout_s < math.inf:
            raise ValueError(
                "expected at least 1 attempt and a positive, finite timeout in "
                f"seconds, got {attempts} and {timeout_s}"
            )
        super().__init__(retriever)
        self.num_retries = 0
        self.num_failures = dict(NO_FAILURES)
        self._counting = threading.Lock()
        self._attempts = attempts
        self._timeout_s = timeout_s

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first.

        Raises:
          SearchError: if all attempts failed; the message lists the reason of each.
          SearchStoppedError: of the retriever, at once.
        """
        failures: list[str] = []
        pause = 0.0
        for number in range(self._attempts):
            if number:
                time.sleep(pause)
                with self._counting:
                    self.num_retries += 1
            try:
                return self._answers(queries, k)
            except SearchError as error:
                with self._counting:
                    self.num_failures[failure_kind(error)] += 1
                failures.append(f"({number + 1}) {reason_of(error)}")
                pause = pause_after(error, number)
            if pause > LONGEST_PAUSE_S:
                break
        tries = "try" if len(failures) == 1 else "tries"
        raise SearchError(
            f"no answer to {len(queries)} queries in {len(failures)} {tries}: "
            f"{'; '.join(failures)}"
        )

    def search_counts(self) -> dict[str, float]:
        """Retries and failed attempts so far, and what the retriever itself counts."""
        with self._counting:
            counts = attempt_counts(self.num_retries, self.num_failures)
        if isinstance(self._retriever, CountingRetriever):
            counts |= self._retriever.search_counts()
        return counts

    def _answers(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Makes one attempt.

        Raises:
          SearchError: if it fails, or there is no answer in time.
        """
        with DaemonExecutor() as background:
            asked = background.submit(super().search, queries, k)
            concurrent.futures.wait([asked], self._timeout_s)
            if not asked.done():
                raise NoAnswerInTimeError(f"no answer within {self._timeout_s:g} s")
            return asked.result()


def attempt_counts(
    num_retries: int = 0, num_failures: Mapping[str, int] = NO_FAILURES
) -> dict[str, float]:
    """Numbers of retries and of failed attempts, under the names of their metrics."""
    failures = {f"searches/failed_tries_{k}": float(n) for k, n in num_failures.items()}
    return {"searches/retries": float(num_retries), **failures}


def pause_after(error: SearchError, number: int) -> float:
    """Seconds to wait after a failed attempt; infinite if another one is useless.

    Args:
      error: the attempt's error.
      number: number of failed attempts before it.
    """
    if isinstance(error, RefusedSearchError):
        return math.inf
    # The exponent is limited because a float is.
    pause = _PAUSE_S * 2.0 ** min(number, 32) * random.uniform(1.0, 1.5)
    pause = min(pause, LONGEST_PAUSE_S)
    is_busy = isinstance(error, BusySearchError)
    return max(pause, error.retry_after_s) if is_busy else pause
