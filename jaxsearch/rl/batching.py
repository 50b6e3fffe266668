"""Rows stacked into microbatches, in a short list of shapes."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from jaxsearch.rl.rows import EMPTY_ROW, TrainRow


class TrainBatch(NamedTuple):
    """Rows of a microbatch, padded on the right; every array is [M T].

    Attributes:
      tokens: int32.
      segments: number of the rollout within the row that a token belongs to, counted
        from 1, int32; 0 is padding, at the end.
      loss_mask: True for tokens that count in the loss; the arrays below are read only
        there.
      behavior_logprobs: nats, of the sampler at its temperature.
      sampling_logprobs: nats, of the distribution that tokens were drawn from, after
        truncation to top-k or top-p.
      old_logprobs: nats, of the policy before the step's first minibatch: the
        denominator of the ratio. Equal to behavior_logprobs unless the trainer
        recomputes them (`shaping.recompute_old_logprobs`).
      advantages: in reward units, or as the stage's estimator scales them.
      weights: weight of each token's loss.
    """

    tokens: Array
    segments: Array
    loss_mask: Array
    behavior_logprobs: Array
    sampling_logprobs: Array
    old_logprobs: Array
    advantages: Array
    weights: Array


BATCH_DTYPES = TrainBatch(
    tokens=np.int32,
    segments=np.int32,
    loss_mask=np.bool_,
    behavior_logprobs=np.float32,
    sampling_logprobs=np.float32,
    old_logprobs=np.float32,
    advantages=np.float32,
    weights=np.float32,
)


def num_batch_rows(max_tokens: int, row_len: int, row_multiple: int = 1) -> int:
    """Number of rows M in a microbatch with `row_len` tokens per row.

    The largest multiple of `row_multiple` that fits `max_tokens` padded tokens, and at
    least `row_multiple`.
    """
    return max(1, max_tokens // (row_len * row_multiple)) * row_multiple


def batch_shapes(
    num_rows: int, row_len: int, sharding: jax.sharding.Sharding
) -> TrainBatch:
    """A TrainBatch with a shape, a dtype and a sharding instead of each array."""
    return TrainBatch(
        *(
            jax.ShapeDtypeStruct((num_rows, row_len), dtype, sharding=sharding)
            for dtype in BATCH_DTYPES
        )
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batching:
    """Stacks rows into microbatches on the devices; see `microbatches` for the fields.

    Attributes:
      put: puts a batch on the devices.
    """

    row_lens: Sequence[int]
    max_tokens: int
    row_multiple: int
    is_packed: bool
    put: Callable[[TrainBatch], TrainBatch]

    def __call__(self, rows: Sequence[TrainRow]) -> list[TrainBatch]:
        """At least one batch: without rows, the update is skipped and counted."""
        batches = microbatches(
            rows or [EMPTY_ROW],
            row_lens=self.row_lens,
            max_tokens=self.max_tokens,
            row_multiple=self.row_multiple,
            is_packed=self.is_packed,
        )
        return [self.put(batch) for batch in batches]


def microbatches(
    rows: Sequence[TrainRow],
    *,
    row_lens: Sequence[int],
    max_tokens: int,
    row_multiple: int = 1,
    is_packed: bool = False,
) -> Iterator[TrainBatch]:
    """Yields microbatches of rows with similar lengths, limited by their tokens.

    Args:
      rows: in any order.
      row_lens: lengths T that a batch may have, ascending; one shape for each.
      max_tokens: maximum of padded tokens M * T per batch; a batch has at least
        `row_multiple` rows, however long they are.
      row_multiple: M is a multiple of this number (of devices that share the rows).
      is_packed: whether several of `rows` can share one row of a batch, up to the last
        of row_lens; the network must separate them by `segments`.

    Raises:
      ValueError: if a row is longer than the last of row_lens, if the first token of
        a row counts in the loss (nothing predicts it), if the arrays of a row differ
        in length, or if row_lens do not ascend.
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
        num_rows = num_batch_rows(max_tokens, row_len, row_multiple)
        for first in range(start, end, num_rows):
            yield _stacked(
                ordered[first : min(first + num_rows, end)], num_rows, row_len
            )
        start = end


def _check(row: TrainRow) -> None:
    lengths = {
        name: len(array)
        for name, array in row._asdict().items()
        if isinstance(array, np.ndarray)
    }
    if len(set(lengths.values())) != 1:
        raise ValueError(f"the arrays of a row must have equal lengths, got {lengths}")
    if len(row.tokens) and row.loss_mask[0]:
        raise ValueError("the first token of a row cannot count: no token predicts it")


def _num_tokens(rows: Sequence[TrainRow]) -> int:
    return sum(len(row.tokens) for row in rows)


def _packed(rows: Sequence[TrainRow], row_len: int) -> list[list[TrainRow]]:
    """Groups of rows that fit into `row_len`: first fit, the longest rows first."""
    shared: list[list[TrainRow]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: -len(row.tokens)):
        length = len(row.tokens)
        index = next((i for i, left in enumerate(room) if left >= length), len(room))
        if index == len(room):
            shared.append([])
            room.append(row_len)
        shared[index].append(row)
        room[index] -= length
    return shared


def _stacked(
    shared: Sequence[Sequence[TrainRow]], num_rows: int, row_len: int
) -> TrainBatch:
    batch = _empty(num_rows, row_len)
    for i, rows in enumerate(shared):
        start = 0
        for number, row in enumerate(rows, 1):
            span = np.s_[i, start : start + len(row.tokens)]
            batch.tokens[span] = row.tokens
            batch.segments[span] = number
            batch.loss_mask[span] = row.loss_mask
            batch.behavior_logprobs[span] = row.behavior_logprobs
            batch.sampling_logprobs[span] = row.sampling_logprobs
            batch.old_logprobs[span] = row.behavior_logprobs
            batch.advantages[span] = row.advantages
            batch.weights[span] = row.weight
            start += len(row.tokens)
    return batch


def _empty(num_rows: int, row_len: int) -> TrainBatch:
    return TrainBatch(*(np.zeros((num_rows, row_len), dtype) for dtype in BATCH_DTYPES))


def padded(batch: TrainBatch, row_multiple: int) -> TrainBatch:
    """Adds empty rows to a batch on the host, so that devices can share its rows."""
    num_rows, row_len = batch.tokens.shape
    added = _empty(-num_rows % row_multiple, row_len)
    return TrainBatch(*map(np.concatenate, zip(batch, added, strict=True)))
