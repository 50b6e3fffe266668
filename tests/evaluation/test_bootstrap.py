"""Means, and bootstrap intervals by question."""

import numpy as np

from jaxsearch.evaluation.bootstrap import (
    generator,
    intervals,
    means,
    resampled_means,
)

RNG = np.random.default_rng(0)


def test_resamples_are_those_of_drawing_one_by_one():
    totals, weights = RNG.random((9, 3)), RNG.integers(0, 3, (9, 3)).astype(float)
    weights[0] = 1.0
    found = resampled_means(totals, weights, generator(1, "a"), 50)
    rng = generator(1, "a")
    drawn = rng.integers(9, size=(50, 9))
    expected = [totals[rows].sum(axis=0) / weights[rows].sum(axis=0) for rows in drawn]
    np.testing.assert_allclose(found, expected)


def test_chunks_do_not_show(monkeypatch):
    totals, weights = RNG.random((9, 2)), np.ones((9, 2))
    whole = resampled_means(totals, weights, generator(1, "a"), 50)
    monkeypatch.setattr("jaxsearch.evaluation.bootstrap._CHUNK", 7 * 9)
    parts = resampled_means(totals, weights, generator(1, "a"), 50)
    np.testing.assert_allclose(whole, parts)


def test_an_interval_is_that_of_the_normal_distribution():
    """0.3 of 2,000 are right: 0.3 -+ 1.96 sqrt(0.3 * 0.7 / 2,000) = 0.3 -+ 0.020."""
    right = (np.arange(2_000) < 600).astype(float)[:, None]
    found = intervals(resampled_means(right, np.ones_like(right), generator(0, "a")))
    np.testing.assert_allclose(found[:, 0], [0.28, 0.32], atol=0.002)


def test_a_column_without_weight_in_a_resample_is_left_out_of_its_interval():
    """One of four questions has the figure: 0.75 ** 4 of the resamples lack it."""
    totals = np.array([[2.0], [0.0], [0.0], [0.0]])
    weights = np.array([[1.0], [0.0], [0.0], [0.0]])
    resampled = resampled_means(totals, weights, generator(0, "a"), 4_000)
    assert abs(np.isnan(resampled).mean() - 0.75**4) < 0.03
    np.testing.assert_array_equal(intervals(resampled), [[2.0], [2.0]])
    np.testing.assert_array_equal(means(totals, weights), [2.0])


def test_resamples_depend_on_seed_and_name():
    drawn = {
        generator(seed, name).integers(2**60) for seed in (0, 1) for name in ("a", "b")
    }
    assert len(drawn) == 4
