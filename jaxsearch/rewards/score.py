"""`jaxsearch score`: rewards and answer metrics of rollouts saved as JSONL."""

import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.tasks import Task, task_named
from jaxsearch.trajectory import Segment

Line = dict[str, Any]  # one object of a JSONL file

MAX_UNEQUAL_IDS = 20

_METRICS = ("em", "f1", "cover_em")
_KINDS = {str: "a string", list: "a list", bool: "true or false", dict: "an object"}


def score_file(
    path: str | Path, task_name: str, out: str | Path | None = None
) -> dict[str, Any]:
    """Judges each line of a JSONL file (gz too) and returns the summary.

    A line has `golden_answers` and one of `prediction` (answer metrics only),
    `segments` (only what the policy wrote is judged) or `response` (the whole text is
    judged as the recipe's reference does). `prediction` wins over the other two, except
    beside a `reward`: such a line was judged before and is judged anew.
    `ended` is needed with the latter two where the recipe depends on it. A line
    without any golden answer, where the recipe's reference judges such, has metrics 0,
    is counted, and stays out of every mean; else it is an error.

    Args:
      path: the file; blank lines in it are passed over.
      recipe_name: a recipe, which skips lines that name another one, or "auto", which
        takes the recipe that each line names.
      out: a new file for the judged lines: their input and what was found. It is not
        created if any line is malformed.

    Returns:
      `n` lines judged and `skipped`; `num_without_golden_answers`; of the others `em`,
      `f1` and `cover_em` as means, and `mean_reward` over the `num_rewards` that have
      one, None where there is nothing to average; and, if lines carry `expected`, how
      many are `equal` and `unequal`, every field of it compared, and `unequal_ids`, the
      first `MAX_UNEQUAL_IDS` of the latter that have one.
    """
    if task_name != "auto":
        task_named(task_name)
    if out is not None and Path(out).exists():
        raise ValueError(f"{out} exists already; delete it or name another output file")

    judged: list[tuple[Line, Line]] = []
    skipped = 0
    for where, line in _lines(path):
        if task_name != "auto" and line.get("recipe") not in (None, task_name):
            skipped += 1
            continue
        try:
            judged.append((line, _judge(line, task_name)))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if not judged:
        raise ValueError(
            f"{path}: no line to judge with recipe {task_name!r}; {skipped} lines "
            "name another recipe: give that one, or 'auto'"
        )

    if out is not None:
        with _open(out, "x") as file:
            for line, found in judged:
                file.write(json.dumps(line | found).encode() + b"\n")
    return _summary(judged) | {"skipped": skipped}


def _open(path: str | Path, mode: str) -> io.BufferedIOBase:
    if str(path).endswith(".gz"):
        return gzip.open(path, mode + "b")
    return open(path, mode + "b")


def _lines(path: str | Path) -> Iterator[tuple[str, Line]]:
    """Each object of the file, after the words that say where it stands."""
    try:
        with _open(path, "r") as file:
            for number, raw in enumerate(file, start=1):
                if raw.strip():
                    where = f"{path}, line {number}"
                    yield where, _parsed(raw, where)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error


def _parsed(raw: bytes, where: str) -> Line:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not a line of JSON: {error}") from error
    if not isinstance(line, dict):
        raise ValueError(f"{where}: expected an object, got {raw[:40]!r}")
    return line


def _judge(line: Line, task_name: str) -> Line:
    """The fields that the output line has beyond its input."""
    task = task_named(_field(line, "recipe", str) if task_name == "auto" else task_name)
    golden_answers = _field(line, "golden_answers", list)
    if not all(isinstance(gold, str) for gold in golden_answers):
        raise ValueError(f"expected strings in golden_answers, got {golden_answers!r}")

    found: Line = {}
    if "prediction" in line and "reward" not in line:
        prediction = line["prediction"]
        if not isinstance(prediction, str | None):
            raise ValueError(f"prediction must be a string or null, got {prediction!r}")
    else:
        outcome = _outcome(line, task, golden_answers)
        prediction = outcome.prediction
        found = {
            "reward": outcome.reward,
            "parts": outcome.parts,
            "reason": outcome.reason,
            "prediction": prediction,
            **outcome.findings,
        }
    if golden_answers:
        found |= task.metrics(prediction, golden_answers)
    else:
        found |= dict.fromkeys(_METRICS, 0.0)
    if unknown := _field({"expected": {}} | line, "expected", dict).keys() - found:
        raise ValueError(
            f"expected names {sorted(unknown)}, recipe {task.name!r} finds "
            f"{sorted(found)}"
        )
    return found


def _outcome(line: Line, task: Task, golden_answers: list[str]) -> Outcome:
    is_told = task.uses_end or "ended" in line
    has_ended = is_told and _field(line, "ended", bool)
    if "segments" not in line:
        response = _field(line, "response", str)
        return task.judged_text(
            response, golden_answers, has_ended=has_ended, whose="this line"
        )
    if "response" in line:
        raise ValueError("got both segments and response; keep one of them")
    segments = []
    for segment in _field(line, "segments", list):
        if not isinstance(segment, dict):
            raise ValueError(f"expected objects in segments, got {segment!r:.80}")
        text = _field(segment, "text", str)
        is_policy = _field(segment, "is_policy", bool)
        segments.append(Segment(text=text, is_policy=is_policy))
    return task.judged(segments, golden_answers, has_ended=has_ended, whose="this line")


def _field(line: Line, name: str, kind: type) -> Any:
    if name not in line:
        raise ValueError(f"{name!r} is missing; add it as {_KINDS[kind]}")
    if not isinstance(line[name], kind):
        came = repr(line[name])[:80]
        raise ValueError(f"{name!r} must be {_KINDS[kind]}, got {came}")
    return line[name]


def _summary(judged: Sequence[tuple[Line, Line]]) -> dict[str, Any]:
    answerable = [found for line, found in judged if line["golden_answers"]]
    rewards = [found["reward"] for found in answerable if "reward" in found]
    summary = {
        "n": len(judged),
        "mean_reward": _mean(rewards),
        "num_rewards": len(rewards),
        "num_without_golden_answers": len(judged) - len(answerable),
        **{name: _mean([found[name] for found in answerable]) for name in _METRICS},
    }
    expecting = [(line, found) for line, found in judged if "expected" in line]
    if expecting:
        unequal = [
            line
            for line, found in expecting
            if not all(_same(found[name], e) for name, e in line["expected"].items())
        ]
        summary["equal"] = len(expecting) - len(unequal)
        summary["unequal"] = len(unequal)
        summary["unequal_ids"] = [
            line["id"] for line in unequal[:MAX_UNEQUAL_IDS] if "id" in line
        ]
    return summary


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _same(found: Any, expected: Any) -> bool:
    """Equality, of numbers up to the rounding that another order of sums brings."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            _same(found[name], expected[name]) for name in found
        )
    if isinstance(found, float) and isinstance(expected, int | float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return found == expected
