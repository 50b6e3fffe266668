"""Aggregation of token losses: a weight per token, then one division.

Each function takes the number of tokens that count in every rollout of an update, [R],
and returns the weight of the tokens of each rollout, [R], and the divisor of the
weighted sum. It sees the whole update, so the split into microbatches does not matter.
"""

import numpy as np
from jaxtyping import Float, Int

Weights = tuple[Float[np.ndarray, " R"], float]


def token_mean(num_tokens: Int[np.ndarray, " R"], *, max_len: int) -> Weights:
    """Every token of the update has equal weight; long rollouts weigh more.

    Source: DAPO (arXiv:2503.14476), section 3.3; also ReSearch's and Search-R1's code.
    """
    return np.ones(len(num_tokens), np.float32), float(num_tokens.sum())


def sequence_mean(num_tokens: Int[np.ndarray, " R"], *, max_len: int) -> Weights:
    """Every rollout with tokens has equal weight: the mean of token means.

    Source: GRPO (arXiv:2402.03300), equation 3; R1-Searcher's code.
    """
    weights = 1.0 / np.maximum(num_tokens, 1)
    return weights.astype(np.float32), float((num_tokens > 0).sum())


def sequence_sum(num_tokens: Int[np.ndarray, " R"], *, max_len: int) -> Weights:
    """The mean, over rollouts with tokens, of the sum of token losses.

    This is the textbook REINFORCE gradient, of a rollout's log-probability.
    """
    return np.ones(len(num_tokens), np.float32), float((num_tokens > 0).sum())


def fixed_length(num_tokens: Int[np.ndarray, " R"], *, max_len: int) -> Weights:
    """The sum of all losses divided by rollouts times `max_len`.

    The divisor does not depend on lengths, so neither short nor long answers are
    favoured.

    Source: Dr. GRPO (arXiv:2503.20783), section 3.2; max_len is the run's
    `RolloutConfig.max_len`.
    """
    weights = np.ones(len(num_tokens), np.float32)
    return weights, float(len(num_tokens) * max_len)
