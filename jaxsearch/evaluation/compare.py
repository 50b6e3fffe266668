"""Comparison of two evaluations, question by question."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsearch.evaluation.bootstrap import (
    NUM_RESAMPLES,
    generator,
    intervals,
    means,
    resampled_means,
)
from jaxsearch.evaluation.paired_tables import Side, paired_sets


def compare(
    first: str | Path,
    second: str | Path,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares the second evaluation with the first, question by question.

    Args:
      first, second: folders of evaluations, or files of predictions.
      num_resamples: resamples of the bootstrap, by question.
      seed: seed of the resamples.

    Returns:
      For each set, and for the mean over sets if there are several, by metric: both
      values, the difference (second minus first) with its 95% interval, and the
      questions won, lost and equal with the p-value of an exact McNemar test.

    Raises:
      ValueError: if they have no common question, or an id has different questions.
    """
    sets, differences = {}, {}
    for (one, other), *pair in paired_sets(first, second):
        sets[one or other], differences[one or other] = _compared(
            *pair, generator(seed, one), num_resamples
        )
    found: dict[str, Any] = {
        "first": str(first),
        "second": str(second),
        "resamples": num_resamples,
        "seed": seed,
        "sets": sets,
    }
    if len(sets) > 1:
        found["mean_over_sets"] = _mean_over_sets(sets, differences)
    return found


def _compared(
    first: Side, second: Side, rng: np.random.Generator, num_resamples: int
) -> tuple[dict[str, Any], np.ndarray]:
    """The comparison of one set, and the resampled differences [R, M]."""
    both = [
        np.concatenate([first.totals, second.totals], axis=1),
        np.concatenate([first.weights, second.weights], axis=1),
    ]
    values = np.split(means(*both), 2)
    resampled = np.split(resampled_means(*both, rng, num_resamples), 2, axis=1)
    differences = resampled[1] - resampled[0]
    bounds = intervals(differences)
    found: dict[str, Any] = {
        "n": len(first.totals),
        "num_only_in_first": first.num_others,
        "num_only_in_second": second.num_others,
        "figures": {
            name: {
                "first": float(values[0][i]),
                "second": float(values[1][i]),
                "difference": float(values[1][i] - values[0][i]),
                "interval": bounds[:, i].tolist(),
            }
            | (_won_and_lost(first, second, i) if name.endswith("em") else {})
            for i, name in enumerate(first.columns)
        },
    }
    return found, differences


def _won_and_lost(first: Side, second: Side, column: int) -> dict[str, Any]:
    """Counts of questions won, lost and equal for the second evaluation."""
    both = (first, second)
    have = np.all([side.weights[:, column] > 0 for side in both], axis=0)
    rates = [s.totals[have, column] / s.weights[have, column] for s in both]
    won, lost = int((rates[1] > rates[0]).sum()), int((rates[1] < rates[0]).sum())
    return {
        "won": won,
        "lost": lost,
        "equal": len(rates[0]) - won - lost,
        "p": mcnemar(won, lost),
    }


def mcnemar(won: int, lost: int) -> float:
    """Two-sided p-value of the exact McNemar test.

    The probability that fair coin flips, one for each question whose result differs,
    are at least as uneven. With several answers per question it is a sign test.
    """
    number, smaller = won + lost, min(won, lost)
    term = total = 1
    for i in range(smaller):
        term = term * (number - i) // (i + 1)
        total += term
    # Python divides such integers exactly, however long they are.
    return min(1.0, 2 * total / 2**number)


def _mean_over_sets(
    sets: Mapping[str, Any], differences: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The mean of each metric over sets, with equal weights."""
    columns = [list(one["figures"]) for one in sets.values()]
    shared = [c for c in columns[0] if all(c in others for others in columns)]
    resampled = [
        parts[:, [names.index(c) for c in shared]]
        for parts, names in zip(differences.values(), columns, strict=True)
    ]
    bounds = intervals(np.mean(resampled, axis=0))
    return {
        name: {
            **{
                key: _mean([one["figures"][name][key] for one in sets.values()])
                for key in ("first", "second", "difference")
            },
            "interval": bounds[:, i].tolist(),
        }
        for i, name in enumerate(shared)
    }


def _mean(values: Sequence[float | int]) -> float:
    return sum(values) / len(values)
