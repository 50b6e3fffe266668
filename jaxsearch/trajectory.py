"""What a rollout leaves behind."""

import dataclasses
import enum

import numpy as np


class Status(enum.StrEnum):
    """How a rollout ended."""

    ANSWERED = "answered"  # end token after a well-formed answer
    ENDED = "ended"  # end token without one
    OUT_OF_SEARCHES = "out_of_searches"  # asked again after the last search allowed
    OUT_OF_LENGTH = "out_of_length"  # a token budget ran out
    SEARCH_FAILED = "search_failed"  # the retriever gave no answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of text with one author."""

    text: str
    is_policy: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """One query and what it brought."""

    query: str
    passage_ids: tuple[str, ...]
    num_deleted_tags: int = 0  # control tags taken out of the passages
    is_truncated: bool = False  # the observation was longer than its budget
    has_failed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """One finished rollout. Ids are the truth; `segments` is a view of them.

    Attributes:
      position: where its question stood in the question stream.
      member: its index in the group of that question.
      tokens: prompt, then turns and observations in order, [T] int32.
      is_policy: True where the policy sampled the token, [T].
      logprobs: nats, at the sampling temperature; read only where is_policy, [T].
      prompt_len: tokens before the first sampled one.
      segments: the text after the prompt, by author.
    """

    question_id: str
    question: str
    golden_answers: tuple[str, ...]
    position: int
    member: int
    tokens: np.ndarray
    is_policy: np.ndarray
    logprobs: np.ndarray
    prompt_len: int
    segments: tuple[Segment, ...]
    searches: tuple[Search, ...]
    status: Status

    @property
    def has_ended(self) -> bool:
        """Whether the policy sampled the end token."""
        return self.status in (Status.ANSWERED, Status.ENDED)
