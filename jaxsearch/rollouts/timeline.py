"""A record of what slots, tools and cache pages did during rollouts."""

import dataclasses
import enum
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Activity(enum.StrEnum):
    """The activity of a rollout in a slot."""

    DECODING = "decoding"
    CALLING = "calling"  # its turn is with a tool, or the result has not been read yet
    WAITING = "waiting"  # its observation waits for room in the cache


class Span(NamedTuple):
    """A rollout in a slot, for as long as it does one thing; times in seconds.

    Attributes:
      replica: the copy of the policy that has the slot.
      slot: number of the slot.
      prompt_index: index of the question.
      sample_index: number of the answer to that question.
    """

    replica: int
    slot: int
    prompt_index: int
    sample_index: int
    activity: Activity
    start: float
    end: float


class ToolSpan(NamedTuple):
    """A call of the environment, with the turns of some slots; times in seconds."""

    replica: int
    slots: tuple[int, ...]
    start: float
    end: float


class PageOwners(NamedTuple):
    """The slot that owns each cache page at a time, -1 if it is free; owners is [P]."""

    replica: int
    time: float
    owners: Int[np.ndarray, " P"]


@dataclasses.dataclass(kw_only=True)
class Timeline:
    """Receives what happens during rollouts; times are seconds since it was made.

    Attributes:
      spans: of each slot, in the order in which they end.
      tool_spans: calls of the environment, as long as they took.
      pages: the owners of pages before each call of the decoding program.

    Example:
      >>> policy = jaxsearch.load_policy("jaxsearch:quickstart")
      >>> timeline = jaxsearch.Timeline()
      >>> [trajectory] = jaxsearch.rollout(
      ...     policy,
      ...     "What is the birthplace of Parruk?",
      ...     retriever=["Parruk\\nParruk was born in Zegbol and married Sevviz."],
      ...     temperature=0.0,
      ...     timeline=timeline,
      ... )
      >>> [span.activity.value for span in timeline.spans]
      ['decoding', 'calling', 'decoding']
    """

    spans: list[Span] = dataclasses.field(default_factory=list)
    tool_spans: list[ToolSpan] = dataclasses.field(default_factory=list)
    pages: list[PageOwners] = dataclasses.field(default_factory=list)
    _started: float = dataclasses.field(default_factory=time.perf_counter)
    # (replica, slot) -> the span that has not ended; replicas have different keys.
    _open: dict[tuple[int, int], Span] = dataclasses.field(default_factory=dict)

    def now(self) -> float:
        """Seconds since the timeline was made."""
        return time.perf_counter() - self._started

    def begin(
        self, replica: int, slot: int, rollout: tuple[int, int], activity: Activity
    ) -> None:
        """Ends what the slot did, and begins something else.

        Args:
          rollout: prompt_index and sample_index.
        """
        before = self._open.get((replica, slot))
        if before is not None and before.activity is activity:
            return
        self.end(replica, slot)
        now = self.now()
        self._open[replica, slot] = Span(replica, slot, *rollout, activity, now, now)

    def end(self, replica: int, slot: int) -> None:
        """Ends what the slot did; it is free now."""
        before = self._open.pop((replica, slot), None)
        if before is not None:
            self.spans.append(before._replace(end=self.now()))

    def add_tool_span(self, replica: int, slots: Sequence[int], start: float) -> None:
        """Records a call of the environment that has just returned."""
        self.tool_spans.append(ToolSpan(replica, tuple(slots), start, self.now()))

    def add_pages(self, replica: int, owners: Int[np.ndarray, " P"]) -> None:
        """Records which slot owns each page."""
        self.pages.append(PageOwners(replica, self.now(), owners))
