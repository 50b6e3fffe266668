"""From queries to the ids of observations, off the main thread."""

import dataclasses
from collections.abc import Sequence

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.protocol import Protocol
from jaxsearch.search.index import Index
from jaxsearch.search.passages import Passage
from jaxsearch.search.sanitize import clean_passages
from jaxsearch.trajectory import Search


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observer:
    """Answers queries with token ids that are safe to put into a context.

    Attributes:
      num_passages: asked of the index per query.
      max_observation_len: tokens; a longer observation loses the end of its text,
        never its closing tag, and is counted as truncated.
    """

    index: Index
    protocol: Protocol
    tokenizer: Tokenizer
    num_passages: int
    max_observation_len: int

    def observe(self, queries: Sequence[str]) -> list[tuple[list[int], Search]]:
        """For each query the ids of its observation and the record of the search.

        Equal queries are asked once. Errors: SearchError, from the index.
        """
        distinct = list(dict.fromkeys(queries))
        found = self.index.search(distinct, self.num_passages)
        if len(found) != len(distinct):
            raise RuntimeError(
                f"the index answered {len(found)} of {len(distinct)} queries; "
                "an index must give one list of hits per query"
            )
        answers = {
            query: self._render(query, [hit.passage for hit in hits])
            for query, hits in zip(distinct, found, strict=True)
        }
        return [answers[query] for query in queries]

    def _render(
        self, query: str, passages: Sequence[Passage]
    ) -> tuple[list[int], Search]:
        banned = (*self.protocol.control_tags, *self.tokenizer.special_strings)
        clean, num_deleted = clean_passages(passages, banned)
        ids = self.tokenizer.encode(self.protocol.observation(clean))
        is_truncated = len(ids) > self.max_observation_len
        while len(ids) > self.max_observation_len:
            if not clean:
                raise ValueError(
                    f"max_observation_len is {self.max_observation_len} but an empty "
                    f"observation already takes {len(ids)} tokens; allow more"
                )
            clean = _shorter(clean, self.max_observation_len / len(ids))
            ids = self.tokenizer.encode(self.protocol.observation(clean))
        record = Search(
            query=query,
            passage_ids=tuple(passage.id for passage in passages),
            num_deleted_tags=num_deleted,
            is_truncated=is_truncated,
        )
        return ids, record


def _shorter(passages: list[Passage], share: float) -> list[Passage]:
    """The passages cut at the end to about that share of their characters."""
    total = sum(len(passage.contents) for passage in passages)
    # Always drop something, so that the caller's loop ends.
    room = min(int(total * share), total - 1)
    kept = []
    for passage in passages:
        if room <= 0:
            break
        kept.append(dataclasses.replace(passage, contents=passage.contents[:room]))
        room -= len(passage.contents)
    return kept
