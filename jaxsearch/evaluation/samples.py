"""Metrics of several answers to a question: pass@k and the majority answer."""

import math
from collections import Counter
from collections.abc import Sequence


def pass_at(num_samples: int, num_right: int, k: int) -> float:
    """The probability that k of the samples include a right answer.

    The k samples are drawn without replacement. The mean over questions is unbiased
    for k independent samples.

    Source: Chen et al. 2021 (arXiv:2107.03374), section 2.1.
    """
    return 1.0 - math.comb(num_samples - num_right, k) / math.comb(num_samples, k)


def powers(num_samples: int) -> list[int]:
    """1, 2, 4, ... and the number of samples itself."""
    below = [2**i for i in range(num_samples.bit_length()) if 2**i < num_samples]
    return [*below, num_samples]


def majority(answers: Sequence[str]) -> int | None:
    """Index of the most frequent answer; the answers are normalised.

    Empty and missing answers do not count. Ties go to the earliest answer. None if
    there is no answer.
    """
    votes = Counter(answer for answer in answers if answer)
    if not votes:
        return None
    most = max(votes.values())
    return next(i for i, answer in enumerate(answers) if votes[answer] == most)
