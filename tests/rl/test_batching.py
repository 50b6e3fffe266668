"""Splitting the rows of finished rollouts into microbatches."""

import numpy as np
import pytest

from jaxsearch.rl.batching import microbatches
from jaxsearch.rl.rows import TrainRow


def row(length, *, value=1, first_policy=1):
    """A row whose tokens are all `value`, sampled from `first_policy` on."""
    return TrainRow(
        tokens=np.full(length, value, np.int32),
        loss_mask=np.arange(length) >= first_policy,
        behavior_logprobs=np.full(length, -float(value), np.float32),
        sampling_logprobs=np.full(length, -2.0 * value, np.float32),
        advantages=0.5 * value,
    )


def lengths_of(batch):
    """Number of tokens in each row of a batch."""
    return (batch.segments > 0).sum(axis=1).tolist()


def cut(lengths, **options):
    return list(microbatches([row(length) for length in lengths], **options))


def test_every_row_is_in_exactly_one_batch_whole_and_padded():
    rows = [row(length, value=length) for length in (3, 9, 4, 8, 2, 5, 16)]
    batches = list(microbatches(rows, row_lens=[4, 8, 16], max_tokens=16))
    found = []
    for batch in batches:
        for i, length in enumerate(lengths_of(batch)):
            assert (
                batch.segments[i] == (np.arange(len(batch.segments[i])) < length)
            ).all()
            assert (batch.tokens[i, :length] == length).all()
            assert (batch.behavior_logprobs[i, :length] == -length).all()
            assert (batch.sampling_logprobs[i, :length] == -2.0 * length).all()
            assert (batch.old_logprobs[i, :length] == -length).all()
            assert (batch.advantages[i, :length] == 0.5 * length).all()
            assert not batch.loss_mask[i, :1].any()
            assert batch.loss_mask[i, 1:length].all()
            for array in batch:
                assert not array[i, length:].any()
            found.append(int(length))
    assert sorted(found) == [0, 2, 3, 4, 5, 8, 9, 16]  # 0: a row of padding only


def test_rows_go_to_the_shortest_length_that_holds_them():
    """At most 32 tokens per batch: 8 rows of 4 tokens, 4 of 8, 2 of 16."""
    batches = cut([3, 4, 5, 8, 9, 16, 16], row_lens=[4, 8, 16], max_tokens=32)
    shapes = [batch.tokens.shape for batch in batches]
    assert shapes == [(8, 4), (4, 8), (2, 16), (2, 16)]
    dtypes = [array.dtype.name for array in batches[0]]
    assert dtypes == ["int32", "int32", "bool"] + ["float32"] * 5


def test_rows_are_a_multiple_of_the_devices_that_share_them():
    batches = cut([16] * 5, row_lens=[16], max_tokens=100, row_multiple=4)
    assert [batch.tokens.shape for batch in batches] == [(4, 16), (4, 16)]
    # Even if that is more than max_tokens.
    (batch,) = cut([16], row_lens=[16], max_tokens=8, row_multiple=4)
    assert batch.tokens.shape == (4, 16)
    assert lengths_of(batch) == [16, 0, 0, 0]


def test_packed_rows_share_a_row_whole_and_in_order():
    """First fit, longest rows first: 9 + 7, 8 + 5 + 3, 6 + 6 + 2 + 2 in rows of 16."""
    lengths = (6, 2, 9, 5, 7, 3, 8, 6, 2)
    rows = [row(length, value=i + 1) for i, length in enumerate(lengths)]
    (batch,) = microbatches(rows, row_lens=[16], max_tokens=64, is_packed=True)
    assert batch.tokens.shape == (4, 16)
    found = []
    for i, segments in enumerate(batch.segments):
        starts = np.flatnonzero(np.diff(segments, prepend=0))
        numbers = segments[starts]
        assert numbers[numbers > 0].tolist() == [*range(1, (numbers > 0).sum() + 1)]
        for number in numbers[numbers > 0]:
            place = segments == number
            (value,) = set(batch.tokens[i, place])
            length = lengths[value - 1]
            assert place.sum() == length
            assert batch.loss_mask[i, place].tolist() == [False] + [True] * (length - 1)
            assert (batch.old_logprobs[i, place] == -value).all()
            assert (batch.advantages[i, place] == 0.5 * value).all()
            found.append(int(value))
        padding = segments == 0
        assert not padding.any() or padding[padding.argmax() :].all()
        for array in batch:
            assert not array[i, padding].any()
    assert sorted(found) == list(range(1, 10))
    assert sorted(lengths_of(batch)) == [0, 16, 16, 16]


def test_rows_that_fill_little_go_to_a_shorter_length():
    """With packing too: 16 tokens together, and 3 left over."""
    options = {"row_lens": [4, 16], "max_tokens": 16, "is_packed": True}
    shapes = [batch.tokens.shape for batch in cut([10, 6, 3], **options)]
    assert shapes == [(4, 4), (1, 16)]


def test_no_rows_are_no_batches():
    assert cut([], row_lens=[16], max_tokens=16) == []


def test_a_row_that_fits_nowhere_is_refused():
    with pytest.raises(ValueError, match="a row has 17 tokens; at most 16 fit"):
        cut([3, 17], row_lens=[8, 16], max_tokens=16)


def test_a_first_token_that_counts_is_refused():
    """No token predicts it, so it would have a weight but no loss."""
    rows = [row(4, first_policy=0)]
    with pytest.raises(ValueError, match="first token of a row cannot count"):
        list(microbatches(rows, row_lens=[4], max_tokens=4))


def test_arrays_of_different_lengths_are_refused():
    rows = [row(4)._replace(behavior_logprobs=np.zeros(1, np.float32))]
    with pytest.raises(
        ValueError, match="equal lengths, got .*'tokens': 4.*'behavior_logprobs': 1"
    ):
        list(microbatches(rows, row_lens=[4], max_tokens=4))


@pytest.mark.parametrize("row_lens", [[], [16, 8], [8, 8], [1, 8]])
def test_lengths_that_do_not_ascend_are_refused(row_lens):
    with pytest.raises(ValueError, match="row_lens must ascend from at least 2"):
        cut([2], row_lens=row_lens, max_tokens=16)


@pytest.mark.parametrize("option", ["max_tokens", "row_multiple"])
def test_nothing_at_a_time_is_refused(option):
    options = {"max_tokens": 16, "row_multiple": 1, option: 0}
    with pytest.raises(ValueError, match="must be at least 1, got"):
        cut([2], row_lens=[4], **options)
