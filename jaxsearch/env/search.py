"""From queries to the ids of observations, off the main thread."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Literal

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.sanitize import clean_passages, strip_tags
from jaxsearch.protocol import Protocol
from jaxsearch.search.index import Index, SearchError
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import ToolCall

# In the place of passages, so that every protocol shows it in its own form.
_FAILURE = Passage(id="", contents="\nThe search failed: nothing was looked up.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observer:
    """Answers queries with token ids that are safe to put into a context.

    Attributes:
      num_passages: asked of the index per query.
      max_observation_len: tokens; a longer observation loses the end of its text,
        never its closing tag, and is counted as truncated.
      on_search_failure: "drop" raises the index's SearchError, "observe" answers
        with an observation which says that the search failed.
      has_reminder: answer an empty query with the protocol's reminder, without a
        search.

    Errors: ValueError if not even an empty observation fits, or the reminder; or if
    the protocol has none.
    """

    index: Index
    protocol: Protocol
    tokenizer: Tokenizer
    num_passages: int
    max_observation_len: int
    on_search_failure: Literal["drop", "observe"]
    has_reminder: bool = False

    def __post_init__(self):
        if self.has_reminder and not self.protocol.reminder:
            raise ValueError(
                f"protocol {self.protocol.name!r} has no reminder for a turn that asks "
                "nothing; leave out rollout.has_reminder"
            )
        reminder_len = len(self._reminder) if self.has_reminder else 0
        if reminder_len > self.max_observation_len:
            raise ValueError(
                f"max_observation_len is {self.max_observation_len} but the protocol's "
                f"reminder takes {reminder_len} tokens; allow more"
            )
        empty_len = len(self.tokenizer.encode(self.protocol.observation([])))
        if empty_len > self.max_observation_len:
            raise ValueError(
                f"max_observation_len is {self.max_observation_len} but an empty "
                f"observation already takes {empty_len} tokens; allow more"
            )

    def observe(self, queries: Sequence[str]) -> list[tuple[list[int], ToolCall]]:
        """For each query the ids of its observation and the record of the search.

        Equal queries are asked once. Errors: SearchError, from the index, unless
        failures are observed.
        """
        distinct = list(dict.fromkeys(queries))
        answers = {}
        if self.has_reminder and "" in distinct:
            distinct.remove("")
            answers[""] = (self._reminder, ToolCall(query="", passage_ids=()))
        if distinct:
            answers |= self._found(distinct)
        return [answers[query] for query in queries]

    def _found(self, queries: Sequence[str]) -> dict[str, tuple[list[int], ToolCall]]:
        """Of each query, which are all different, what the index says to it."""
        try:
            found = self.index.search(queries, self.num_passages)
        except SearchError as error:
            if self.on_search_failure == "drop":
                raise
            return {query: self._failed(query, str(error)) for query in queries}
        if len(found) != len(queries):
            raise RuntimeError(
                f"the index answered {len(found)} of {len(queries)} queries; "
                "an index must give one list of hits per query"
            )
        return {
            query: self.answer(query, [hit.passage for hit in hits])
            for query, hits in zip(queries, found, strict=True)
        }

    def answer(
        self, query: str, passages: Sequence[Passage]
    ) -> tuple[list[int], ToolCall]:
        clean, num_deleted = clean_passages(passages, self._banned_strings)
        ids, num_joined = self._encoded(clean)
        is_truncated = len(ids) > self.max_observation_len
        while len(ids) > self.max_observation_len:
            clean = _shorter(clean, self.max_observation_len / len(ids))
            ids, num_joined = self._encoded(clean)
        record = ToolCall(
            query=query,
            passage_ids=tuple(passage.id for passage in passages),
            num_deleted_tags=num_deleted + num_joined,
            is_truncated=is_truncated,
        )
        return ids, record

    def _failed(self, query: str, failure: str) -> tuple[list[int], ToolCall]:
        ids, record = self.answer(query, [_FAILURE])
        return ids, dataclasses.replace(
            record, passage_ids=(), has_failed=True, failure=failure
        )

    def _encoded(self, passages: Sequence[Passage]) -> tuple[list[int], int]:
        """Ids of the observation, and how many tags its joined text has lost.

        A tokenizer may change a text before it cuts it (Unicode normalisation), so
        special ids are taken out of its result as well.
        """
        body, num_deleted = strip_tags(
            self.protocol.render(passages), self._banned_strings
        )
        ids = self.tokenizer.encode(self.protocol.frame(body))
        kept = [i for i in ids if i not in self._banned_ids]
        return kept, num_deleted + len(ids) - len(kept)

    @functools.cached_property
    def _reminder(self) -> list[int]:
        return self.tokenizer.encode(self.protocol.reminder)

    @functools.cached_property
    def _banned_strings(self) -> tuple[str, ...]:
        return (*self.protocol.control_tags, *self.tokenizer.special_strings)

    @functools.cached_property
    def _banned_ids(self) -> frozenset[int]:
        """Special ids without the unknown piece and those that the tags are made of."""
        frame = self.tokenizer.encode(self.protocol.observation([]))
        return self.tokenizer.special_ids - {self.tokenizer.unknown_id, *frame}


def _shorter(passages: Sequence[Passage], share: float) -> list[Passage]:
    """The passages cut at the end to about that share of their characters."""
    total = sum(len(passage.contents) for passage in passages)
    # Always drop something, so that the caller's loop ends.
    room = min(int(total * share), total - 1)
    kept = []
    for passage in passages:
        if room <= 0:
            break
        contents = _beginning(passage.contents, room)
        kept.append(dataclasses.replace(passage, contents=contents))
        room -= len(passage.contents)
    return kept


def _beginning(text: str, max_chars: int) -> str:
    """The first characters, without a word that the cut would go through."""
    if len(text) <= max_chars:
        return text
    whole_words = re.match(r"(?s).*(?=\s)", text[: max_chars + 1])
    return whole_words.group() if whole_words else text[:max_chars]
