"""A finished rollout: tokens, their authors, tool calls and final status."""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

SEARCH = "search"  # name of the search tool


class Status(enum.StrEnum):
    """How a rollout ended."""

    ANSWERED = "answered"  # ended after a well-formed answer
    ENDED = "ended"  # ended without a well-formed answer
    OUT_OF_CALLS = "out_of_searches"  # a call beyond the budget
    OUT_OF_LENGTH = "out_of_length"  # a token budget was used up
    TOOL_FAILED = "search_failed"  # a tool gave no answer
    MODEL_FAILED = "model_failed"  # the model server gave no answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of text with one author."""

    text: str
    is_policy: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One tool call and its outcome.

    Attributes:
      tool: name of the tool.
      query: the text of the call.
      passage_ids: ids of the passages that a search found.
      num_deleted_tags: control tags and special tokens deleted from the observation.
      is_truncated: whether the observation was longer than its budget.
      has_failed: whether the tool gave no answer.
      failure: why the tool gave no answer; "" if it did.
    """

    tool: str = SEARCH
    query: str
    passage_ids: tuple[str, ...] = ()
    num_deleted_tags: int = 0
    is_truncated: bool = False
    has_failed: bool = False
    failure: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Trajectory:
    """One finished rollout. `segments` is the decoded text of `tokens`.

    Attributes:
      prompt_index: index of its question in the question stream.
      sample_index: index of the sample in the group of that question.
      tokens: prompt, then turns and observations in order, [T] int32.
      is_policy: True where the policy sampled the token, [T].
      logprobs: in nats, at the sampling temperature; valid only where is_policy, [T].
      sampling_logprobs: the same after top-k and top-p truncation; equal to `logprobs`
        without truncation.
      prompt_len: tokens before the first sampled one.
      segments: the text after the prompt, by author.
      status: how the rollout ended.
      failure: why the model server gave no answer; "" if it did.
      is_encoded_again: whether a model server returned text without ids, so that some
        tokens of the policy were encoded from it.
      is_excluded: whether a guard excludes the rollout from the update.
      metadata: the other columns of the question's row, for rewards.
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
    failure: str = ""
    is_encoded_again: bool = False
    is_excluded: bool = False
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.question!r:.80}, {self.status}, "
            f"searches {len(self.searches)}, tokens {len(self.tokens)}, by the policy "
            f"{int(self.is_policy.sum())})"
        )

    @property
    def searches(self) -> tuple[ToolCall, ...]:
        """The calls of the search tool."""
        return tuple(call for call in self.tool_calls if call.tool == SEARCH)

    @property
    def has_ended(self) -> bool:
        """Whether the rollout ended normally, not by a budget or a failure."""
        return self.status in (Status.ANSWERED, Status.ENDED)

    @property
    def is_judged(self) -> bool:
        """Whether a reward can judge it: no failed tool or server ended it."""
        return self.status not in (Status.TOOL_FAILED, Status.MODEL_FAILED)

    @property
    def is_kept(self) -> bool:
        """Whether an update may use it: it can be judged, and no guard excludes it."""
        return self.is_judged and not self.is_excluded


def segments_of(
    tokens: Int[np.ndarray, " T"],
    is_policy: Bool[np.ndarray, " T"],
    prompt_len: int,
    decode: Callable[[Int[np.ndarray, " W"]], str],
) -> tuple[Segment, ...]:
    """Splits the text after the prompt where the author changes."""
    changes = np.flatnonzero(np.diff(is_policy[prompt_len:])) + 1 + prompt_len
    bounds = [prompt_len, *changes.tolist(), len(tokens)]
    return tuple(
        Segment(text=decode(tokens[start:end]), is_policy=bool(is_policy[start]))
        for start, end in zip(bounds, bounds[1:], strict=False)
        if end > start
    )
