"""A bounded cache of answers, by query and number of passages."""

import collections
import threading
from collections.abc import Iterable

from jaxsearch.search.index import Hit


class AnswerCache:
    """Keeps the answers that were used last; several threads may use it at once.

    Args:
      size: number of answers to keep; 0 for none.
    """

    def __init__(self, size: int):
        self._size = size
        self._lock = threading.Lock()
        self._answers: collections.OrderedDict[tuple[str, int], tuple[Hit, ...]] = (
            collections.OrderedDict()
        )

    def __len__(self) -> int:
        return len(self._answers)

    def known(self, queries: Iterable[str], k: int) -> dict[str, list[Hit]]:
        """The answers that are kept, by query."""
        found = {}
        with self._lock:
            for query in queries:
                hits = self._answers.get((query, k))
                if hits is not None:
                    self._answers.move_to_end((query, k))
                    found[query] = list(hits)
        return found

    def keep(self, answers: dict[str, list[Hit]], k: int) -> None:
        """Keeps answers, in the place of those that were used least recently."""
        with self._lock:
            for query, hits in answers.items():
                self._answers[query, k] = tuple(hits)
                self._answers.move_to_end((query, k))
            while len(self._answers) > self._size:
                self._answers.popitem(last=False)
