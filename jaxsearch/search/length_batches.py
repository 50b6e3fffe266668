"""Rows of many lengths in few shapes: which go together, and in what shape."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32


class Batch(NamedTuple):
    """Rows that are computed together, as [num_rows, row_len]."""

    members: list[int]  # positions of the rows among all; at most num_rows
    num_rows: int
    row_len: int


def row_lens(max_len: int) -> tuple[int, ...]:
    """Lengths that programs exist for, up to max_len.

    Multiples of 8 up to 128, of 16 up to 256, of 32 up to 512, and so on: from 64 on
    at most an eighth of a row is padding.
    """
    lens, step = [], 8
    while not lens or lens[-1] < max_len:
        lens.append(step + (lens[-1] if lens else 0))
        if lens[-1] == 16 * step:
            step *= 2
    return (*lens[:-1], max_len)


def batches_of_tokens(
    lengths: Sequence[int], max_len: int, *, num_tokens: int, row_multiple: int
) -> list[Batch]:
    """Batches of rows of like length, the longest first.

    Full ones hold about `num_tokens` tokens, padding included. The last one holds
    what is left, in a number of rows that is a power of two times `row_multiple`.
    """
    sizes = np.array(row_lens(max_len))
    order = np.argsort(-np.array(lengths), kind="stable").tolist()
    found, start = [], 0
    while start < len(order):
        row_len = int(sizes[np.searchsorted(sizes, lengths[order[start]])])
        full = max(1, num_tokens // (row_len * row_multiple)) * row_multiple
        members = order[start : start + full]
        num_rows = row_multiple
        while num_rows < len(members):
            num_rows *= 2
        found.append(Batch(members, min(num_rows, full), row_len))
        start += full
    return found


def batches_by_length(
    lengths: Sequence[int], max_len: int, *, num_rows: int
) -> list[Batch]:
    """Batches of `num_rows` rows, each in the shape of its own length."""
    sizes = np.array(row_lens(max_len))
    own = sizes[np.searchsorted(sizes, np.array(lengths, int))]
    found = []
    for row_len in np.unique(own).tolist():
        members = np.flatnonzero(own == row_len).tolist()
        found += [
            Batch(members[start : start + num_rows], num_rows, row_len)
            for start in range(0, len(members), num_rows)
        ]
    return found


def padded(
    rows: Sequence[Sequence[int]], batch: Batch
) -> tuple[Int32[np.ndarray, "B T"], Int32[np.ndarray, " B"]]:
    """Ids in the shape of the batch, and the length of each row; 0 for none."""
    ids = np.zeros((batch.num_rows, batch.row_len), np.int32)
    lengths = np.zeros(batch.num_rows, np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        lengths[i] = len(row)
    return ids, lengths
