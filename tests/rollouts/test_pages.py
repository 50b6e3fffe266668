"""Pages of the cache: ownership, and what happens when they run out."""

import numpy as np
import pytest

from jaxsearch.models.cache import NO_PAGE
from jaxsearch.rollouts import shapes
from jaxsearch.rollouts.pages import PageTable


def table(num_slots=3, num_pages=8, page_len=4, max_len=16):
    return PageTable(
        num_slots=num_slots, num_pages=num_pages, page_len=page_len, max_len=max_len
    )


def test_slots_take_the_lowest_free_pages_as_they_grow():
    pages = table()
    assert pages.cover(0, 5) and pages.cover(2, 1) and pages.cover(0, 8)
    assert pages.cover(0, 9)
    assert pages.covered(0) == 12 and pages.covered(1) == 0
    np.testing.assert_array_equal(
        pages.rows([2, 0], 3),
        [[2, *[NO_PAGE] * 3], [0, 1, 3, NO_PAGE], [NO_PAGE] * 4],
    )
    assert pages.rows([0], 1, 2).tolist() == [[0, 1]]
    assert (pages.end([2]), pages.end([0, 2]), pages.end([1])) == (3, 4, 0)
    pages.release(0)
    assert pages.covered(0) == 0
    assert pages.cover(1, 4) and pages.rows([1], 1)[0, 0] == 0


def test_what_does_not_fit_changes_nothing():
    pages = table(num_pages=5)
    assert pages.cover(0, 16)
    assert not pages.cover(1, 5)
    assert pages.covered(1) == 0 and pages.cover(1, 4)


def test_a_row_is_admitted_if_the_others_can_still_grow():
    pages = table(num_pages=8)
    assert pages.admits(16)  # no other row needs room
    assert pages.cover(0, 16) and pages.admits(16)  # the first row needs no more pages
    pages.release(0)
    assert pages.cover(0, 4) and pages.cover(1, 12)
    assert pages.admits(8) and not pages.admits(12)


def test_a_cache_that_cannot_hold_one_row_is_refused():
    with pytest.raises(ValueError, match="3 pages of 4 tokens cannot hold one row"):
        table(num_pages=3)


def test_reading_parts_of_the_cache_and_fewer_rows_gives_the_same_rollouts(
    kit, questions, trajectories, monkeypatch
):
    """Large samplers do this; here segments of two pages force it."""
    monkeypatch.setattr(shapes, "_MIN_SEGMENT_LEN", 32)
    monkeypatch.setattr(shapes, "_MIN_ROWS", 2)
    monkeypatch.setattr(shapes, "_MIN_SAVED_READS", 0)
    monkeypatch.setattr(shapes, "_MIN_SAVED_PRODUCTS", 0)
    sampler = kit.sampler(8)
    done, timing = sampler.run(
        kit.params, questions, kit.environment(), group_size=4, stage=2, temperature=1.0
    )
    assert timing.num_restarts == 0
    for found, expected in zip(done, trajectories, strict=True):
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=1e-5)


def test_ends_are_far_enough_apart():
    shares = (0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
    assert shapes._shares(shares, 256, 16) == (64, 96, 128, 160, 192, 256)
    assert shapes._shares(shares, 80, 16) == (20, 40, 60, 80)
    assert shapes._shares(shares, 30, 16) == (30,)


@pytest.mark.slow
@pytest.mark.parametrize("page_len", [4, 16])
def test_a_cache_too_small_for_all_slots_gives_the_same_rollouts(
    kit, questions, trajectories, page_len
):
    """Rollouts wait and restart, but the results are the same."""
    # Searches take a fixed number of calls; otherwise restarts would depend on when
    # results arrive.
    sampler = kit.sampler(16, cache_len=96, page_len=page_len, search_calls=1)
    done, timing = sampler.run(
        kit.params, questions, kit.environment(), group_size=4, stage=2, temperature=1.0
    )
    assert timing.num_restarts > 0
    for found, expected in zip(done, trajectories, strict=True):
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=1e-5)
        assert found.tool_calls == expected.tool_calls
        assert found.status == expected.status
