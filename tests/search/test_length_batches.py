"""Tests of length batches: each row once, few shapes, little padding."""

import numpy as np
import pytest

from jaxsearch.search.length_batches import (
    Batch,
    batches_by_length,
    batches_of_tokens,
    padded,
    row_lens,
)


def test_lengths_are_few_and_near():
    assert row_lens(40) == (8, 16, 24, 32, 40)
    assert row_lens(43) == (8, 16, 24, 32, 40, 43)
    assert row_lens(3) == (3,)
    lens = np.array(row_lens(512))
    assert len(lens) == 32 and lens[-1] == 512 and 136 not in lens and 144 in lens
    for length in range(65, 513):
        taken = lens[np.searchsorted(lens, length)]
        assert taken - length <= taken / 8


@pytest.mark.parametrize("row_multiple", [1, 8])
@pytest.mark.parametrize("num", [0, 1, 7, 500])
def test_batches_hold_every_row_once_and_about_as_many_tokens(num, row_multiple):
    lengths = np.random.default_rng(num).integers(3, 130, size=num).tolist()
    found = batches_of_tokens(lengths, 130, num_tokens=512, row_multiple=row_multiple)
    members = [i for batch in found for i in batch.members]
    assert sorted(members) == list(range(num))
    assert [lengths[i] for i in members] == sorted(lengths, reverse=True)
    for batch in found:
        assert max(lengths[i] for i in batch.members) <= batch.row_len <= 130
        assert len(batch.members) <= batch.num_rows
        assert batch.num_rows % row_multiple == 0
        assert batch.num_rows == row_multiple or batch.num_rows * batch.row_len <= 512
    for batch in found[:-1]:
        assert len(batch.members) == batch.num_rows
    # A row longer than the budget is a batch by itself.
    assert batches_of_tokens([9], 9, num_tokens=4, row_multiple=1) == [Batch([0], 1, 9)]


def test_the_last_batch_has_a_power_of_two_of_rows():
    found = batches_of_tokens([5] * 21, 8, num_tokens=128, row_multiple=1)
    assert [(len(b.members), b.num_rows, b.row_len) for b in found] == [
        (16, 16, 8),
        (5, 8, 8),
    ]
    # 12 rows fit, which is not a power of two: 11 rows are not padded to 16.
    [last] = batches_of_tokens([8] * 11, 8, num_tokens=96, row_multiple=1)
    assert last.num_rows == 12


def test_a_row_has_the_shape_of_its_own_length():
    lengths = [3, 30, 9, 4, 8, 17, 5]
    found = batches_by_length(lengths, 30, num_rows=2)
    assert found == [
        Batch([0, 3], 2, 8),
        Batch([4, 6], 2, 8),
        Batch([2], 2, 16),
        Batch([5], 2, 24),
        Batch([1], 2, 30),
    ]
    assert batches_by_length([], 30, num_rows=2) == []


def test_padded_rows_say_how_long_they_are():
    ids, lengths = padded([[7, 8], [9]], Batch([4, 1], 3, 4))
    assert ids.tolist() == [[7, 8, 0, 0], [9, 0, 0, 0], [0, 0, 0, 0]]
    assert lengths.tolist() == [2, 1, 0]
