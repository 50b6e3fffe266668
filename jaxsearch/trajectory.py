"""What a rollout leaves behind."""

import dataclasses
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int


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


class TrainRow(NamedTuple):
    """What an update needs of one trajectory or demonstration.

    Attributes:
      tokens, is_policy, old_logprobs: [T]; the first token is nobody's choice.
      advantage: of every policy token.
      weight: of every policy token's loss.
    """

    tokens: np.ndarray
    is_policy: np.ndarray
    old_logprobs: np.ndarray
    advantage: float
    weight: float = 1.0


class TrainBatch(NamedTuple):
    """Rows of a microbatch, padded on the right.

    Attributes:
      tokens: [M T] int32.
      segments: which of the rollouts in its row a token belongs to, counted from 1 and
        in order; 0 is padding, at the end, [M T] int32.
      is_policy: tokens that count in the loss, [M T].
      old_logprobs: of the sampler, read where is_policy, [M T].
      advantages: per token, read where is_policy, [M T].
      weights: of each token's loss, read where is_policy, [M T].
    """

    tokens: Array
    segments: Array
    is_policy: Array
    old_logprobs: Array
    advantages: Array
    weights: Array


def microbatches(
    rows: Sequence[TrainRow],
    *,
    row_lens: Sequence[int],
    max_tokens: int,
    row_multiple: int = 1,
    is_packed: bool = False,
) -> Iterator[TrainBatch]:
    """Rows of similar length together, cut by tokens, in a short list of shapes.

    Args:
      row_lens: lengths T that a batch may have, ascending; one shape for each.
      max_tokens: padded tokens M * T of a batch; at least `row_multiple` rows are
        taken, however long.
      row_multiple: M is a multiple of it (devices that share the rows).
      is_packed: several rows of `rows` share one of a batch, up to the last of
        row_lens, where the network keeps them apart.

    Errors: ValueError for a row longer than the last of row_lens, for one whose
    first token counts (nothing predicts it) or whose arrays differ in length, and
    for row_lens that do not ascend.
    """
    if not row_lens or list(row_lens) != sorted(set(row_lens)) or row_lens[0] < 2:
        raise ValueError(f"row_lens must ascend from at least 2, got {tuple(row_lens)}")
    if max_tokens < 1 or row_multiple < 1:
        raise ValueError(
            "max_tokens and row_multiple must be at least 1, got "
            f"{max_tokens} and {row_multiple}"
        )
    for row in rows:
        _check(row)
    longest = max((len(row.tokens) for row in rows), default=0)
    if longest > row_lens[-1]:
        raise ValueError(f"a row has {longest} tokens; at most {row_lens[-1]} fit")
    shared = _packed(rows, row_lens[-1]) if is_packed else [[row] for row in rows]
    ordered = sorted(shared, key=_num_tokens)
    start = 0
    for row_len in row_lens:
        end = start
        while end < len(ordered) and _num_tokens(ordered[end]) <= row_len:
            end += 1
        num_rows = max(1, max_tokens // (row_len * row_multiple)) * row_multiple
        for first in range(start, end, num_rows):
            yield _stacked(
                ordered[first : min(first + num_rows, end)], num_rows, row_len
            )
        start = end


def _check(row: TrainRow) -> None:
    lengths = {len(row.tokens), len(row.is_policy), len(row.old_logprobs)}
    if len(lengths) != 1:
        raise ValueError(
            "tokens, is_policy and old_logprobs of a row must be equally long, got "
            f"{len(row.tokens)}, {len(row.is_policy)} and {len(row.old_logprobs)}"
        )
    if len(row.tokens) and row.is_policy[0]:
        raise ValueError("the first token of a row cannot be a policy token")


def _num_tokens(rows: Sequence[TrainRow]) -> int:
    return sum(len(row.tokens) for row in rows)


def _packed(rows: Sequence[TrainRow], row_len: int) -> list[list[TrainRow]]:
    """Rows that share one of `row_len`: the longest first, each where it first fits."""
    shared: list[list[TrainRow]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: -len(row.tokens)):
        length = len(row.tokens)
        place = next((i for i, left in enumerate(room) if left >= length), len(room))
        if place == len(room):
            shared.append([])
            room.append(row_len)
        shared[place].append(row)
        room[place] -= length
    return shared


def _stacked(
    shared: Sequence[Sequence[TrainRow]], num_rows: int, row_len: int
) -> TrainBatch:
    batch = TrainBatch(
        tokens=np.zeros((num_rows, row_len), np.int32),
        segments=np.zeros((num_rows, row_len), np.int32),
        is_policy=np.zeros((num_rows, row_len), bool),
        old_logprobs=np.zeros((num_rows, row_len), np.float32),
        advantages=np.zeros((num_rows, row_len), np.float32),
        weights=np.zeros((num_rows, row_len), np.float32),
    )
    for i, rows in enumerate(shared):
        start = 0
        for number, row in enumerate(rows, 1):
            place = np.s_[i, start : start + len(row.tokens)]
            batch.tokens[place] = row.tokens
            batch.segments[place] = number
            batch.is_policy[place] = row.is_policy
            batch.old_logprobs[place] = row.old_logprobs
            batch.advantages[place] = row.advantage
            batch.weights[place] = row.weight
            start += len(row.tokens)
    return batch
