"""Comparison of two evaluations, question by question."""

import dataclasses
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
from jaxsearch.evaluation.figures import Table, read_answers

# Metrics that are compared.
_SYSTEMS = ("", "research/", "r1_searcher/")
COMPARED = (
    *(f"{system}{name}" for system in _SYSTEMS for name in ("em", "f1", "cover_em")),
    *("searches", "tokens", "out_of_length", "search_failed"),
    *("answer_read", "titles_read"),
)


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
    tables = [_tables(_file(path)) for path in (first, second)]
    names = _shared_names(*tables, first, second)
    sets, differences = {}, {}
    for one, other in names:
        pair = _aligned(tables[0][one], tables[1][other], first, second)
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


def _file(path: str | Path) -> Path:
    """The file of predictions of a folder.

    Raises:
      ValueError: if there is none.
    """
    path = Path(path)
    file = path / "predictions.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"{path}: expected the folder of an evaluation, or a file of predictions; "
            f"there is no {file}"
        )
    return file


def _tables(file: Path) -> dict[str, Table]:
    answers = read_answers(file)
    if not answers:
        raise ValueError(f"{file} is empty; expected lines of predictions")
    return {name: one.table() for name, one in answers.items()}


def _shared_names(
    first: Mapping[str, Table],
    second: Mapping[str, Table],
    first_path: str | Path,
    second_path: str | Path,
) -> list[tuple[str, str]]:
    """Pairs the names of sets; if both have only one set, their names may differ.

    Raises:
      ValueError: if they have no common set.
    """
    if len(first) == len(second) == 1:
        return [(next(iter(first)), next(iter(second)))]
    shared = [(name, name) for name in first if name in second]
    if not shared:
        raise ValueError(
            f"{first_path} and {second_path} have no set of questions in common: "
            f"{', '.join(map(repr, first))} and {', '.join(map(repr, second))}"
        )
    return shared


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """The metrics of one evaluation, for the questions that both have."""

    totals: np.ndarray
    weights: np.ndarray
    columns: tuple[str, ...]
    num_others: int


def _aligned(
    first: Table, second: Table, first_path: str | Path, second_path: str | Path
) -> tuple[_Side, _Side]:
    """Both tables, limited to their common questions and metrics, in the same order.

    Raises:
      ValueError: if there is no such question, or an id has different questions.
    """
    shared = [id_ for id_ in first.questions if id_ in second.questions]
    if not shared:
        raise ValueError(
            f"{first_path} and {second_path} have no question in common, such as "
            f"{next(iter(first.questions))!r} and {next(iter(second.questions))!r}"
        )
    for id_ in shared:
        texts = (first.questions[id_], second.questions[id_])
        if texts[0] != texts[1] and all(texts):
            raise ValueError(
                f"question {id_!r} is {texts[0]!r:.80} in {first_path}, but "
                f"{texts[1]!r:.80} in {second_path}; compare evaluations of the same "
                "questions"
            )
    tables = (first, second)
    orders = [{id_: row for row, id_ in enumerate(t.questions)} for t in tables]
    rows = [[order[id_] for id_ in shared] for order in orders]
    # A figure may be of other questions alone.
    columns = tuple(
        c
        for c in COMPARED
        if all(
            c in table.columns and table.weights[some, table.columns.index(c)].any()
            for table, some in zip(tables, rows, strict=True)
        )
    )
    sides = []
    for table, some in zip(tables, rows, strict=True):
        chosen = [table.columns.index(name) for name in columns]
        sides.append(
            _Side(
                totals=table.totals[some][:, chosen],
                weights=table.weights[some][:, chosen],
                columns=columns,
                num_others=len(table.questions) - len(shared),
            )
        )
    return sides[0], sides[1]


def _compared(
    first: _Side, second: _Side, rng: np.random.Generator, num_resamples: int
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


def _won_and_lost(first: _Side, second: _Side, column: int) -> dict[str, Any]:
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


_ROW = "{:<22} {:>8} {:>8} {:>11}  {:<18} {:>6} {:>6} {:>9}"
_TITLES = ("first", "second", "difference", "95% interval", "won", "lost", "p")


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    """A comparison as a table for the console."""
    lines = [f"first   {found['first']}", f"second  {found['second']}"]
    for name, one in found["sets"].items():
        others = (one["num_only_in_first"], one["num_only_in_second"])
        lines += ["", f"{name or 'questions'}: {one['n']} in both"]
        if any(others):
            lines[-1] += f", {others[0]} only in the first, {others[1]} in the second"
        lines += _figure_lines(one["figures"])
    if "mean_over_sets" in found:
        lines += ["", f"mean of {len(found['sets'])} sets"]
        lines += _figure_lines(found["mean_over_sets"])
    return lines


def _figure_lines(figures: Mapping[str, Any]) -> list[str]:
    lines = [_ROW.format("", *_TITLES).rstrip()]
    for name, one in figures.items():
        low, high = one["interval"]
        counted = ("", "", "")
        if "p" in one:
            counted = (one["won"], one["lost"], f"{one['p']:.2g}")
        lines.append(
            _ROW.format(
                name,
                f"{one['first']:.3f}",
                f"{one['second']:.3f}",
                f"{one['difference']:+.3f}",
                f"[{low:+.3f}, {high:+.3f}]",
                *counted,
            ).rstrip()
        )
    return lines
