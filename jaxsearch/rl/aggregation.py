"""How the losses of tokens become one number: a weight a token, then one division.

Each function takes the policy tokens of every rollout of an update, [R], and returns
the weight of each token of a rollout, [R], and what the weighted sum is divided by.
They see the whole update, so that its cut into microbatches changes nothing.
"""

import numpy as np
from jaxtyping import Float, Int

Weights = tuple[Float[np.ndarray, " R"], float]


def token_mean(num_tokens: Int[np.ndarray, " R"], *, max_len: int) -> Weights:
    """Every token of the update counts alike: long rollouts count for more.

    Source: DAPO (arXiv:2503.14476), section 3.3; so do ReSearch's and Search-R1's code.
    """
    return np.ones(len(num_tokens), np.float32), float(num_tokens.sum())


def sequence_mean(num_tokens: Int[np.ndarray, " R"], *, max_len: int) -> Weights:
    """Every rollout counts alike, its tokens by their mean; none without tokens.

    Source: GRPO (arXiv:2402.03300), equation 3; R1-Searcher's code.
    """
    weights = 1.0 / np.maximum(num_tokens, 1)
    return weights.astype(np.float32), float((num_tokens > 0).sum())


def sequence_sum(num_tokens: Int[np.ndarray, " R"], *, max_len: int) -> Weights:
    """The sum of each rollout's losses, meaned over rollouts with tokens.

    The gradient of REINFORCE as it is derived: of a rollout's log-probability.
    """
    return np.ones(len(num_tokens), np.float32), float((num_tokens > 0).sum())


def fixed_length(num_tokens: Int[np.ndarray, " R"], *, max_len: int) -> Weights:
    """The sum of all losses over rollouts times `max_len`, whatever their lengths.

    No rollout is paid for being short or long.

    Source: Dr. GRPO (arXiv:2503.20783), section 3.2; max_len is the run's
    `rollout.max_len`.
    """
    weights = np.ones(len(num_tokens), np.float32)
    return weights, float(len(num_tokens) * max_len)
