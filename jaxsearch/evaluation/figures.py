"""Metrics of answers, computed from lines of predictions, as columns of a table."""

import dataclasses
import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsearch.evaluation.reading import has_read_answer, has_read_titles
from jaxsearch.evaluation.samples import majority, pass_at, powers
from jaxsearch.json_lines import parse_line
from jaxsearch.rewards.answers import (
    Normalise,
    cover_em,
    exact_match,
    f1,
    normalise_r1_searcher,
    normalise_research,
)
from jaxsearch.trajectory import SEARCH, Status

Line = Mapping[str, Any]

METRICS = ("em", "f1", "cover_em")
# Normalisers of both systems, in addition to the task's.
NORMALISERS: dict[str, Normalise] = {
    "research": normalise_research,
    "r1_searcher": normalise_r1_searcher,
}
CELLS = ("right_read", "right_not_read", "wrong_read", "wrong_not_read")
GROUP_KINDS = ("hops", "type", "searches")
_GROUPED = (*METRICS, "searches")
_MAX_GROUPS = 100  # of a kind; a column of the user's may be of as many as questions
# In the types and ids of MuSiQue; a mixture writes the name of a set in front.
_HOPS = re.compile(r"(?:.*/)?(\d)hop")


def read_predictions(path: Path) -> Iterator[Line]:
    """The lines of a file of predictions, one at a time.

    Raises:
      ValueError: for a line that is not a prediction; the error has its number.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, start=1):
            line = parse_line(text, path, number)
            if wrong := _wrong_field(line):
                raise ValueError(
                    f"{path}, line {number}: expected a line of predictions.jsonl, "
                    f"with id, golden_answers and prediction; its {wrong!r} is "
                    f"{line.get(wrong)!r:.60}"
                )
            yield line


def _wrong_field(line: Line) -> str:
    """The first field that no line of predictions has like this; "" for none."""
    searches, segments = line.get("searches"), line.get("segments", [])
    is_right = {
        "id": isinstance(line.get("id"), str),
        "golden_answers": _all_are(line.get("golden_answers"), str),
        "prediction": isinstance(line.get("prediction"), str | None),
        "metadata": isinstance(line.get("metadata", {}), dict),
        "calls": _all_are(line.get("calls", []), str),
        "searches": searches is None or _all_are(searches, dict),
        "segments": _all_are(segments, dict)
        and all(isinstance(one.get("text"), str) for one in segments)
        and all("is_policy" in one for one in segments),
        **{
            name: isinstance(line.get(name), int | float | None)
            for name in (*METRICS, "reward", "policy_len")
        },
    }
    return next((name for name, right in is_right.items() if not right), "")


def _all_are(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(one, kind) for one in values)


def answer_figures(line: Line) -> dict[str, float]:
    """The metrics of one answer; NaN for those that the line does not have.

    `em`, `f1` and `cover_em` use the normaliser of the task that judged the answer.
    """
    prediction, golds = line.get("prediction"), line["golden_answers"]
    found = {name: _number(line.get(name)) for name in METRICS}
    for system, plain in NORMALISERS.items():
        normalise = functools.cache(plain)  # the metrics compare the same texts
        for name, metric in zip(METRICS, (exact_match, f1, cover_em), strict=True):
            has_value = prediction is not None and golds
            value = metric(prediction, golds, normalise) if has_value else 0.0
            found[f"{system}/{name}"] = value
    searches, status = line.get("searches"), line.get("status")
    read = _number(has_read_answer(line))
    is_right = found["em"] == 1.0
    cells = {"right_read": 0.0, "right_not_read": 0.0}
    cells |= {"wrong_read": 0.0, "wrong_not_read": 0.0}
    cell = f"{'right' if is_right else 'wrong'}_{'read' if read else 'not_read'}"
    cells[cell] = 1.0
    has_searches = isinstance(searches, list)
    return found | {
        "reward": _number(line.get("reward")),
        "searches": float(len(searches)) if has_searches else math.nan,
        "search_failed": float(any(one.get("has_failed") for one in searches))
        if has_searches
        else math.nan,
        "tokens": _number(line.get("policy_len")),
        "out_of_length": _number(
            None if status is None else status == Status.OUT_OF_LENGTH
        ),
        "answer_read": read,
        "titles_read": _number(has_read_titles(line)),
        **(dict.fromkeys(CELLS, math.nan) if math.isnan(read) else cells),
    }


def _number(value: float | int | bool | None) -> float:
    return math.nan if value is None else float(value)


def groups_of(line: Line) -> dict[str, str]:
    """The group of an answer by kind (hops, type, searches); "" for none."""
    metadata = line.get("metadata", {})
    kind = metadata.get("type")
    kind = kind if isinstance(kind, str) else ""
    hops = _HOPS.match(kind) or _HOPS.match(line["id"])
    searches = line.get("searches")
    return {
        "hops": str(metadata.get("hops", hops[1] if hops else "")),
        "type": kind,
        "searches": str(len(searches)) if isinstance(searches, list) else "",
    }


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Metrics by question, as sums over answers and numbers of answers.

    Attributes:
      questions: texts of the questions by id, in the order of the rows.
      num_answers: total number of answers.
      columns: names of the metrics.
      totals: sum of each metric over the answers to a question, [Q, M].
      weights: number of these answers that have the metric, [Q, M].
    """

    questions: dict[str, str]
    num_answers: int
    columns: tuple[str, ...]
    totals: np.ndarray
    weights: np.ndarray


class Answers:
    """The answers to one set of questions.

    Args:
      normalise: the task's normaliser, for the majority of several answers; None for
        no majority.
    """

    def __init__(self, normalise: Normalise | None = None):
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
        for name, column in self._sample_figures().items():
            columns.append(name)
            totals.append(column)
            weights.append(np.ones(num_rows))
        return Table(
            questions=self._questions,
            num_answers=len(rows),
            columns=tuple(columns),
            totals=np.stack(totals, axis=1),
            weights=np.stack(weights, axis=1),
        )

    def _sample_figures(self) -> dict[str, Float[np.ndarray, " Q"]]:
        """pass@k and the majority's exact match; {} with one answer per question."""
        votes = [self._votes[row] for row in range(len(self._order))]
        num_samples = min(map(len, votes))
        if num_samples < 2:
            return {}
        found = {
            f"pass@{k}": np.array(
                [pass_at(len(v), sum(em == 1.0 for _, em in v), k) for v in votes]
            )
            for k in powers(num_samples)
        }
        if self._normalise is not None:
            found["majority_em"] = np.array([_majority_em(v) for v in votes])
        return found


def _majority_em(votes: Sequence[tuple[str, float]]) -> float:
    """Exact match of the most frequent answer; 0 if there is no answer."""
    chosen = majority([answer for answer, _ in votes])
    return 0.0 if chosen is None else votes[chosen][1]


def _ordered(groups: set[str]) -> list[str]:
    """Sort key: numbers in numeric order, then names."""
    return sorted(
        groups, key=lambda g: (not g.isdigit(), int(g) if g.isdigit() else 0, g)
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
