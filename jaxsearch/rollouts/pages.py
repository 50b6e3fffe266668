"""The page table: the cache pages of each slot, kept on the host."""

import heapq
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from jaxsearch.models.cache import NO_PAGE


class PageTable:
    """Assigns pages to slots as they grow, and frees them.

    The lowest free page is assigned first, so that pages in use stay at the beginning
    of the cache and only a short prefix has to be read.
    """

    def __init__(self, *, num_slots: int, num_pages: int, page_len: int, max_len: int):
        self.page_len = page_len
        self._max_pages = -(-max_len // page_len)  # M, of one slot
        if num_pages < self._max_pages:
            raise ValueError(
                f"{num_pages} pages of {page_len} tokens cannot hold one row of "
                f"{max_len} tokens; the cache needs at least {self._max_pages} pages"
            )
        self._num_pages = num_pages
        self._free = list(range(num_pages))
        self._owned: list[list[int]] = [[] for _ in range(num_slots)]

    def cover(self, slot: int, length: int) -> bool:
        """Assigns pages for `length` tokens; if too few are free, returns False."""
        num_more = self._num_needed(length) - len(self._owned[slot])
        if num_more > len(self._free):
            return False
        for _ in range(num_more):
            self._owned[slot].append(heapq.heappop(self._free))
        return True

    def covered(self, slot: int) -> int:
        """Number of tokens that fit in the slot's pages."""
        return len(self._owned[slot]) * self.page_len

    def release(self, slot: int) -> None:
        """Frees all pages of a slot."""
        for page in self._owned[slot]:
            heapq.heappush(self._free, page)
        self._owned[slot].clear()

    def admits(self, length: int) -> bool:
        """Whether a new row of `length` tokens leaves room for other rows to grow.

        One page is reserved for each row that may need one more.
        """
        in_flight = [len(pages) for pages in self._owned if pages]
        still_needed = sum(self._max_pages - owned for owned in in_flight)
        reserve = min(len(in_flight), still_needed)
        return self._num_needed(length) + reserve <= len(self._free)

    def end(self, slots: Iterable[int]) -> int:
        """One more than the highest page number that these slots own."""
        return 1 + max((max(self._owned[s], default=-1) for s in slots), default=-1)

    def owners(self) -> Int[np.ndarray, " P"]:
        """The slot that owns each page; -1 for free pages."""
        found = np.full(self._num_pages, -1, np.int32)
        for slot, pages in enumerate(self._owned):
            found[pages] = slot
        return found

    def rows(
        self, slots: Sequence[int], num_rows: int, num_pages: int | None = None
    ) -> Int[np.ndarray, "R M"]:
        """Pages of each slot in order of positions, padded with NO_PAGE.

        Args:
          num_rows: R; rows beyond `slots` have no pages.
          num_pages: M, the maximum pages per row; None: as many as a slot can own.
        """
        M = self._max_pages if num_pages is None else num_pages
        table = np.full((num_rows, M), NO_PAGE, np.int32)
        for row, slot in zip(table, slots, strict=False):
            owned = self._owned[slot][:M]
            row[: len(owned)] = owned
        return table

    def _num_needed(self, length: int) -> int:
        return -(-length // self.page_len)
