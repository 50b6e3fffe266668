"""Agreement of two judges: the share of equal verdicts, and Cohen's kappa."""

from collections import Counter
from collections.abc import Sequence

from jaxsearch.verdicts.verdict import Verdict


def agreement(first: Sequence[Verdict], second: Sequence[Verdict]) -> float | None:
    """The share of equal verdicts; None without verdicts."""
    if not first:
        return None
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


def cohens_kappa(first: Sequence[Verdict], second: Sequence[Verdict]) -> float | None:
    """(observed - expected) / (1 - expected) agreement of two judges.

    The expected agreement is that of independent judges with the same frequencies of
    verdicts. Kappa is 1 for full agreement and 0 for agreement at chance level. None if
    it is undefined: both judges always give the same one verdict, or there are none.

    Source: Cohen 1960, A coefficient of agreement for nominal scales.
    """
    observed = agreement(first, second)
    if observed is None:
        return None
    counts, others = Counter(first), Counter(second)
    equal = sum(number * others[verdict] for verdict, number in counts.items())
    if equal == len(first) ** 2:
        return None
    expected = equal / len(first) ** 2
    return (observed - expected) / (1 - expected)
