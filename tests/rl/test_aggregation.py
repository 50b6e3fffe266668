"""Aggregation weights and divisors, computed by hand."""

import numpy as np

from jaxsearch.rl.aggregation import (
    fixed_length,
    sequence_mean,
    sequence_sum,
    token_mean,
)

# Rollouts of 4, 1 and no policy tokens.
NUM_TOKENS = np.array([4, 1, 0])


def mean_of(aggregation, losses):
    """The aggregated loss of rollouts whose tokens all have the same loss."""
    weights, divisor = aggregation(NUM_TOKENS, max_len=10)
    return float((weights * NUM_TOKENS * np.array(losses)).sum() / divisor)


def test_by_hand():
    assert mean_of(token_mean, [1.0, 6.0, 0.0]) == (4 + 6) / 5
    assert mean_of(sequence_mean, [1.0, 6.0, 0.0]) == (1 + 6) / 2
    assert mean_of(sequence_sum, [1.0, 6.0, 0.0]) == (4 + 6) / 2
    assert mean_of(fixed_length, [1.0, 6.0, 0.0]) == (4 + 6) / 30
