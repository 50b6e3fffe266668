"""Means of columns, and their bootstrap intervals over questions."""

import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

NUM_RESAMPLES = 10_000
# Percentiles of a 95% interval.
_BOUNDS = (0.025, 0.975)
# Number of counts that are in memory at once.
_CHUNK = 2**21


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers for one set of questions, which depend on its name."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def means(
    totals: Float[np.ndarray, "Q M"], weights: Float[np.ndarray, "Q M"]
) -> Float[np.ndarray, " M"]:
    """The sum of each column divided by its sum of weights."""
    return totals.sum(axis=0) / weights.sum(axis=0)


def resampled_means(
    totals: Float[np.ndarray, "Q M"],
    weights: Float[np.ndarray, "Q M"],
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> Float[np.ndarray, "R M"]:
    """`means` of resamples, each with Q questions drawn with replacement.

    A column without weight in a resample is NaN there. The number of draws of each
    question is a row of a matrix, so the sums of many resamples are one product.

    Args:
      totals: sum of a figure over the answers to each question.
      weights: number of these answers that have the figure.
      rng: random number generator; the same state gives the same resamples.
      num_resamples: R.
    """
    columns = np.concatenate([totals, weights], axis=1)
    parts = [counts @ columns for counts in _counts(len(totals), rng, num_resamples)]
    sums, divisors = np.split(np.concatenate(parts), 2, axis=1)
    found = np.full_like(sums, np.nan)
    return np.divide(sums, divisors, out=found, where=divisors > 0)


def _counts(
    num_questions: int, rng: np.random.Generator, num_resamples: int
) -> Iterator[Float[np.ndarray, "r Q"]]:
    """Yields the number of draws of each question, for blocks of resamples."""
    chunk = max(1, _CHUNK // num_questions)
    for begin in range(0, num_resamples, chunk):
        num = min(chunk, num_resamples - begin)
        drawn = rng.integers(num_questions, size=(num, num_questions))
        drawn += np.arange(num)[:, None] * num_questions
        counts = np.bincount(drawn.ravel(), minlength=num * num_questions)
        yield counts.reshape(num, num_questions).astype(np.float64)


def intervals(resampled: Float[np.ndarray, "R M"]) -> Float[np.ndarray, "2 M"]:
    """The 2.5th and 97.5th percentiles of each column, ignoring NaN."""
    found = np.quantile(resampled, _BOUNDS, axis=0)
    for column in np.flatnonzero(np.isnan(found[0])):
        values = resampled[:, column]
        values = values[~np.isnan(values)]
        if values.size:
            found[:, column] = np.quantile(values, _BOUNDS)
    return found
