"""What a rollout leaves behind."""

import dataclasses
import enum
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int


class Status(enum.StrEnum):
    """How a rollout ended."""

    ANSWERED = "answered"  # the policy ended it after a well-formed answer
    ENDED = "ended"  # the policy ended it without one
    OUT_OF_CALLS = "out_of_searches"  # asked again after the last search allowed
    OUT_OF_LENGTH = "out_of_length"  # a token budget ran out
    TOOL_FAILED = "search_failed"  # the retriever gave no answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of text with one author."""

    text: str
    is_policy: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One query and what it brought."""

    query: str
    passage_ids: tuple[str, ...]
    num_deleted_tags: int = 0  # control tags taken out of the passages
    is_truncated: bool = False  # the observation was longer than its budget
    has_failed: bool = False
    failure: str = ""  # what the retriever did instead of answering


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """One finished rollout. Ids are the truth; `segments` is a view of them.

    Attributes:
      prompt_index: index of its question in the question stream.
      sample_index: index of the sample in the group of that question.
      tokens: prompt, then turns and observations in order, [T] int32.
      is_policy: True where the policy sampled the token, [T].
      logprobs: nats, at the sampling temperature; read only where is_policy, [T].
      sampling_logprobs: the same under the top-p/top-k cut, where there is one.
      prompt_len: tokens before the first sampled one.
      segments: the text after the prompt, by author.
      is_excluded: a guard of the run keeps it from updates.
    """

    question_id: str
    question: str
    golden_answers: tuple[str, ...]
    prompt_index: int
    sample_index: int
    tokens: np.ndarray
    is_policy: np.ndarray
    logprobs: np.ndarray
    sampling_logprobs: np.ndarray
    prompt_len: int
    segments: tuple[Segment, ...]
    tool_calls: tuple[ToolCall, ...]
    status: Status
    is_excluded: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the policy ended it: by an end token, or as its protocol lets it."""
        return self.status in (Status.ANSWERED, Status.ENDED)

    @property
    def is_kept(self) -> bool:
        """Whether an update may use it: not if its retriever or a guard cut it off."""
        return self.status is not Status.TOOL_FAILED and not self.is_excluded


def segments_of(
    tokens: Int[np.ndarray, " T"],
    is_policy: Bool[np.ndarray, " T"],
    prompt_len: int,
    decode: Callable[[Int[np.ndarray, " W"]], str],
) -> tuple[Segment, ...]:
    """The text after the prompt, cut where the author changes."""
    changes = np.flatnonzero(np.diff(is_policy[prompt_len:])) + 1 + prompt_len
    bounds = [prompt_len, *changes.tolist(), len(tokens)]
    return tuple(
        Segment(text=decode(tokens[start:end]), is_policy=bool(is_policy[start]))
        for start, end in zip(bounds, bounds[1:], strict=False)
        if end > start
    )
