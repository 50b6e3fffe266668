"""The results of sets of questions: means with intervals, groups and reading."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsearch.evaluation.answer_table import Answers, Table
from jaxsearch.evaluation.bootstrap import (
    generator,
    intervals,
    means,
    resampled_means,
)
from jaxsearch.evaluation.figures import (
    CELLS,
    GROUP_KINDS,
    METRICS,
    NORMALISERS,
)

# Clearer names in results for some columns.
_NAMES = {
    "em": "em",
    "f1": "f1",
    "cover_em": "cover_em",
    "reward": "mean_reward",
    "searches": "searches_per_question",
    "tokens": "tokens_per_question",
    "out_of_length": "out_of_length",
}
_SEED = 0  # of the bootstrap


def brief_results(table: Table) -> dict[str, Any]:
    """The results of one set without intervals, as in `eval.jsonl` of a run."""
    value = dict(
        zip(table.columns, means(table.totals, table.weights).tolist(), strict=True)
    )
    found: dict[str, Any] = {
        "n": len(table.questions),
        **{name: value[column] for column, name in _NAMES.items() if column in value},
    }
    if "search_failed" in value:
        failed = table.totals[:, table.columns.index("search_failed")]
        found["num_search_failed"] = round(failed.sum())
    calls = {
        name.removeprefix("calls/"): value[name]
        for name in table.columns
        if name.startswith("calls/")
    }
    return found | ({"calls_per_question": calls} if calls else {})


def grouped_results(table: Table, kind: str) -> dict[str, dict[str, Any]]:
    """n, em, f1, cover_em and searches of each group of a kind."""
    found: dict[str, dict[str, Any]] = {}
    values = means(table.totals, table.weights).tolist()
    for column, value, weight in zip(
        table.columns, values, table.weights.sum(axis=0), strict=True
    ):
        first, _, rest = column.partition("/")
        group, _, name = rest.rpartition("/")
        if first == kind and group:
            found.setdefault(group, {"n": round(weight)})[name] = value
    return found


def set_results(
    name: str, answers: Answers, seed: int = _SEED
) -> tuple[dict[str, Any], np.ndarray, tuple[str, ...]]:
    """All results of one set, and the resampled means behind its intervals.

    Args:
      name: name of the set; the resamples depend on it.
      answers: its answers.
      seed: seed of the resamples.

    Returns:
      The results, the resampled means [R, M], and the names of their columns.
    """
    table = answers.table()
    resampled = resampled_means(table.totals, table.weights, generator(seed, name))
    bounds = intervals(resampled).T.tolist()
    value = dict(
        zip(table.columns, means(table.totals, table.weights).tolist(), strict=True)
    )
    found = brief_results(table)
    num_samples = table.num_samples
    if num_samples.max() > 1:
        found["samples_per_question"] = float(num_samples.mean())
        if num_fewer := int((num_samples < num_samples.max()).sum()):
            found["num_with_fewer_samples"] = num_fewer
        found |= {k: v for k, v in value.items() if k.startswith("pass@")}
        found |= {k: v for k, v in value.items() if k == "majority_em"}
    found["normalisers"] = {
        system: {name: value[f"{system}/{name}"] for name in METRICS}
        for system in NORMALISERS
    }
    found |= {
        f"by_{kind}": groups
        for kind in GROUP_KINDS
        if (groups := grouped_results(table, kind))
    }
    found |= _retrieval(table, value)
    found["intervals"] = dict(zip(table.columns, bounds, strict=True))
    return found, resampled, table.columns


def _retrieval(table: Table, value: Mapping[str, float]) -> dict[str, Any]:
    """Retrieval metrics; {} if the lines do not have the data.

    Yes/no questions are excluded.
    """
    names = ("answer_read", "titles_read", *CELLS)
    shares = {name: value[name] for name in names if name in value}
    if not shares:
        return {}
    numbers = dict(zip(table.columns, table.weights.sum(axis=0).tolist(), strict=True))
    counted = {
        f"num_{name}": round(numbers[column])
        for name, column in (
            ("with_answer", "answer_read"),
            ("with_titles", "titles_read"),
        )
        if column in numbers
    }
    return {"retrieval": shares | counted}


def results_of_sets(sets: Mapping[str, Answers], seed: int = _SEED) -> dict[str, Any]:
    """The results of all sets, and their mean over sets with equal weights.

    Each set is resampled separately for the intervals of the mean.
    """
    found = {name: set_results(name, answers, seed) for name, answers in sets.items()}
    by_set = {name: results for name, (results, _, _) in found.items()}
    if len(by_set) == 1:
        [whole] = by_set.values()
        return {**whole, "sets": by_set}
    shared = [
        column
        for column in next(iter(found.values()))[2]
        if all(column in columns for _, _, columns in found.values())
        and column in _NAMES
    ]
    mean_of_resamples = np.mean(
        [
            resampled[:, [columns.index(name) for name in shared]]
            for _, resampled, columns in found.values()
        ],
        axis=0,
    )
    bounds = intervals(mean_of_resamples).T.tolist()
    return {
        "n": sum(one["n"] for one in by_set.values()),
        **{
            _NAMES[c]: _mean([one[_NAMES[c]] for one in by_set.values()])
            for c in shared
        },
        "num_search_failed": sum(
            one.get("num_search_failed", 0) for one in by_set.values()
        ),
        "intervals": dict(zip(shared, bounds, strict=True)),
        "sets": by_set,
    }


def _mean(values: Sequence[float | int]) -> float:
    return sum(values) / len(values)
