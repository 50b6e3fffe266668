"""Batches of rows of similar length, in a small set of shapes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32


class Batch(NamedTuple):
    """Rows that are computed together, in the shape [num_rows, row_len]."""

    members: list[int]  # indices of the rows; at most num_rows of them
    num_rows: int
    row_len: int


def row_lens(max_len: int) -> tuple[int, ...]:
    """Row lengths for which programs are compiled, up to max_len.

    They are multiples of 8 up to 128, of 16 up to 256, of 32 up to 512, and so on, so
    that at most an eighth of a row of 64 or more tokens is padding.
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
    """Batches with about the same number of tokens, the longest rows first.

    The last batch contains the remaining rows. Its number of rows is a power of two
    times `row_multiple`.

    Args:
      lengths: tokens per row.
      max_len: the largest length.
      num_tokens: tokens of a full batch, including padding.
      row_multiple: the number of rows of each batch is a multiple of this.
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
    """Batches of `num_rows` rows; a row's shape depends only on its own length."""
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
    """Returns ids padded to the shape of the batch, and row lengths (0 if unused)."""
    ids = np.zeros((batch.num_rows, batch.row_len), np.int32)
    lengths = np.zeros(batch.num_rows, np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        lengths[i] = len(row)
    return ids, lengths
