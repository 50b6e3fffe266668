"""Metrics and groups of one answer, computed from its line of predictions."""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxsearch.bounded_files import read_lines
from jaxsearch.evaluation.reading import has_read_answer, has_read_titles
from jaxsearch.json_lines import parse_line
from jaxsearch.rewards.answers import (
    Normalise,
    cover_em,
    exact_match,
    f1,
    normalise_r1_searcher,
    normalise_research,
)
from jaxsearch.trajectory import Status

Line = Mapping[str, Any]

METRICS = ("em", "f1", "cover_em")
# Normalisers of both systems, in addition to the task's.
NORMALISERS: dict[str, Normalise] = {
    "research": normalise_research,
    "r1_searcher": normalise_r1_searcher,
}
CELLS = ("right_read", "right_not_read", "wrong_read", "wrong_not_read")
GROUP_KINDS = ("hops", "type", "searches")
# In the types and ids of MuSiQue; a mixture writes the name of a set in front.
_HOPS = re.compile(r"(?:.*/)?(\d)hop")


def read_predictions(path: Path) -> Iterator[Line]:
    """The lines of a file of predictions, one at a time.

    Raises:
      ValueError: for a line that is not a prediction; the error has its number.
    """
    for number, text in read_lines(path):
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
    hops = metadata.get("hops")
    if hops is None:
        found = _HOPS.match(kind) or _HOPS.match(line["id"])
        hops = found[1] if found else ""
    searches = line.get("searches")
    return {
        "hops": str(hops),
        "type": kind,
        "searches": str(len(searches)) if isinstance(searches, list) else "",
    }
