"""Answers to a set of questions, and the table of their metrics by question."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxsearch.evaluation.figures import (
    GROUP_KINDS,
    METRICS,
    Line,
    answer_figures,
    groups_of,
    read_predictions,
)
from jaxsearch.evaluation.samples import majority, pass_at, powers
from jaxsearch.rewards.answers import Normalise
from jaxsearch.trajectory import SEARCH

_GROUPED = (*METRICS, "searches")
_MAX_GROUPS = 100  # of a kind; a column of the user's may be of as many as questions


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Metrics by question, as sums over answers and numbers of answers.

    Attributes:
      questions: texts of the questions by id, in the order of the rows.
      num_samples: number of answers to each question, [Q].
      columns: names of the metrics.
      totals: sum of each metric over the answers to a question, [Q, M].
      weights: number of these answers that have the metric, [Q, M].
    """

    questions: dict[str, str]
    num_samples: np.ndarray
    columns: tuple[str, ...]
    totals: np.ndarray
    weights: np.ndarray


class Answers:
    """The answers to one set of questions.

    Args:
      normalise: the task's normaliser, for the majority of several answers; None for
        no majority.

    Attributes:
      have_ids: whether no answer was encoded from the text of a model server.
    """

    def __init__(self, normalise: Normalise | None = None):
        self.have_ids = True
        self._normalise = normalise
        self._questions: dict[str, str] = {}
        self._rows: list[int] = []  # row of the question of each answer
        self._figures: dict[str, list[float]] = defaultdict(list)
        self._groups: dict[str, list[str]] = {kind: [] for kind in GROUP_KINDS}
        self._calls: list[Counter[str]] = []
        self._votes: dict[int, list[tuple[str, float]]] = defaultdict(list)
        self._order = {}  # row of each question

    def add(self, line: Line) -> None:
        """Adds one line of predictions."""
        id_ = line["id"]
        row = self._order.setdefault(id_, len(self._order))
        self._questions.setdefault(id_, str(line.get("question", "")))
        self._rows.append(row)
        self.have_ids &= not line.get("is_encoded_again", False)
        found = answer_figures(line)
        for name, value in found.items():
            self._figures[name].append(value)
        for kind, group in groups_of(line).items():
            self._groups[kind].append(group)
        self._calls.append(Counter(t for t in line.get("calls", ()) if t != SEARCH))
        answer = line.get("prediction") or ""
        normalised = self._normalise(answer) if self._normalise else ""
        self._votes[row].append((normalised, found["em"]))

    def table(self) -> Table:
        """The table of all metrics that at least one answer has."""
        figures = {name: np.array(values) for name, values in self._figures.items()}
        for tool in sorted({tool for calls in self._calls for tool in calls}):
            counts = [float(calls[tool]) for calls in self._calls]
            figures[f"calls/{tool}"] = np.array(counts)
        for kind, groups in self._groups.items():
            found = set(groups) - {""}
            if len(found) > _MAX_GROUPS:
                continue
            of_group = np.array(groups)
            for group in _ordered(found):
                for name in _GROUPED:
                    inside = np.where(of_group == group, figures[name], np.nan)
                    figures[f"{kind}/{group}/{name}"] = inside
        rows, num_rows = np.array(self._rows), len(self._order)
        columns, totals, weights = [], [], []
        for name, values in figures.items():
            has_value = ~np.isnan(values)
            if has_value.any():
                columns.append(name)
                whole = np.where(has_value, values, 0.0)
                totals.append(np.bincount(rows, whole, num_rows))
                weights.append(np.bincount(rows, has_value, num_rows))
        for name, (column, weight) in self._sample_figures().items():
            columns.append(name)
            totals.append(column)
            weights.append(weight)
        return Table(
            questions=self._questions,
            num_samples=np.bincount(rows, minlength=num_rows),
            columns=tuple(columns),
            totals=np.stack(totals, axis=1),
            weights=np.stack(weights, axis=1),
        )

    def _sample_figures(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """pass@k and the majority's exact match, with the weight of each question.

        pass@k is that of the questions with at least k answers; a model server may have
        failed to give the others. {} with one answer per question.
        """
        votes = [self._votes[row] for row in range(len(self._order))]
        nums = np.array([len(v) for v in votes])
        if nums.max() < 2:
            return {}
        right = [sum(em == 1.0 for _, em in v) for v in votes]
        found = {}
        for k in powers(int(nums.max())):
            rates = [
                pass_at(num, num_right, k) if num >= k else 0.0
                for num, num_right in zip(nums.tolist(), right, strict=True)
            ]
            found[f"pass@{k}"] = np.array(rates), (nums >= k).astype(float)
        if self._normalise is not None:
            chosen = np.array([_majority_em(v) for v in votes])
            found["majority_em"] = chosen, np.ones(len(votes))
        return found


def _majority_em(votes: Sequence[tuple[str, float]]) -> float:
    """Exact match of the most frequent answer; 0 if there is no answer."""
    chosen = majority([answer for answer, _ in votes])
    return 0.0 if chosen is None else votes[chosen][1]


def _ordered(groups: set[str]) -> list[str]:
    """The groups, numbers in numeric order before names."""
    return sorted(
        groups, key=lambda g: (not g.isdecimal(), int(g) if g.isdecimal() else 0, g)
    )


def read_answers(path: Path, normalise: Normalise | None = None) -> dict[str, Answers]:
    """The answers in a file of predictions, by set; "" for lines that name none."""
    sets: dict[str, Answers] = {}
    for line in read_predictions(path):
        name = str(line.get("set", ""))
        if name not in sets:
            sets[name] = Answers(normalise)
        sets[name].add(line)
    return sets
