"""An index that is asked again when it fails, hangs or miscounts; never for ever."""

import concurrent.futures
import math
import threading
import time
from collections.abc import Sequence

from jaxsearch.env.background import Background
from jaxsearch.search.index import RETRIEVER_ERRORS, Hit, Retriever, SearchError

# Before the second try; before the third twice as long, and so on.
_PAUSE_S = 0.25
_MAX_REASON_LEN = 200  # characters: a server may send a whole page


class RetryingRetriever:
    """An index whose answers are checked, and asked for up to `attempts` times.

    Any thread may search, also while others do.

    A try that takes longer than `timeout_s` is given up and goes on beside the next
    one: the index must bear a call while another hangs. Each such call keeps its
    thread, which does not keep the process from ending.

    Attributes:
      num_retries: tries beyond the first of their batch, so far.
    """

    def __init__(self, retriever: Retriever, *, attempts: int, timeout_s: float):
        if attempts < 1 or not 0 < timeout_s < math.inf:
            raise ValueError(
                "expected at least 1 attempt and a timeout of positive, finite "
                f"seconds, got {attempts} and {timeout_s}"
            )
        self.num_retries = 0
        self._counting = threading.Lock()
        self._retriever = retriever
        self._attempts = attempts
        self._timeout_s = timeout_s

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Up to k hits per query, best first.

        Errors: SearchError, after the last try, says how each of them failed.
        """
        failures: list[str] = []
        for number in range(self._attempts):
            if number:
                time.sleep(_PAUSE_S * number)
                with self._counting:
                    self.num_retries += 1
            try:
                return self._answers(queries, k)
            except RETRIEVER_ERRORS as error:
                failures.append(f"({number + 1}) {reason_of(error)}")
        raise SearchError(
            f"no answer to {len(queries)} queries in {self._attempts} tries: "
            f"{'; '.join(failures)}"
        )

    def _answers(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """One try. Errors: what the index raises; SearchError for what is no answer."""
        with Background() as background:
            asked = background.submit(self._retriever.search, queries, k)
            concurrent.futures.wait([asked], self._timeout_s)
            if not asked.done():
                raise SearchError(f"no answer within {self._timeout_s:g} s")
            answers = asked.result()
        if len(answers) != len(queries):
            raise SearchError(
                f"{len(answers)} lists of hits for {len(queries)} queries"
            )
        if (longest := max(map(len, answers), default=0)) > k:
            raise SearchError(f"{longest} hits for a query, at most {k} were asked for")
        return answers


def reason_of(error: Exception) -> str:
    """An error on one line of bounded length."""
    text = str(error)
    if not isinstance(error, SearchError):
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split())[:_MAX_REASON_LEN]
