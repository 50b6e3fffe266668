"""`jaxsearch score`: rewards and answer metrics of rollouts saved as JSONL."""

import array
import contextlib
import gzip
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxsearch.bad_rows import NUM_NAMED, Note, print_note
from jaxsearch.bounded_files import read_lines
from jaxsearch.json_files import json_value
from jaxsearch.local_paths import check_local
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.tasks import Task, task_named
from jaxsearch.trajectory import Segment

Line = dict[str, Any]  # one object of a JSONL file

MAX_UNEQUAL_IDS = 20

_METRICS = ("em", "f1", "cover_em")
_KINDS = {str: "a string", list: "a list", bool: "true or false", dict: "an object"}


def score_file(
    path: str | Path,
    task_name: str,
    out: str | Path | None = None,
    note: Note = print_note,
) -> dict[str, Any]:
    """Judges each line of a JSONL file (gz too) and returns the summary.

    A line has `golden_answers` and one of `prediction` (answer metrics only),
    `segments` (only the text of the policy is judged) or `response` (the whole text is
    judged, like by the task's reference); `opened` is a tag that the prompt has written
    of it. `prediction` takes precedence over the other
    two, unless the line also has a `reward`: then it was judged before and is judged
    again. `segments` and `response` need `ended` if the task depends on it. A line
    without golden answers is an error, unless the task's reference judges it: then its
    metrics are 0, and it is counted but excluded from all means. Golden answers that
    are empty once normalised count as the task counts them, and are noted.

    Args:
      path: the file; blank lines are ignored.
      task_name: name of a task, which skips lines that name another one, or "auto",
        which takes the task from each line's field "task" (or "recipe", its name in
        earlier versions).
      out: a new file for the judged lines: their input and the computed fields. It is
        not created if any line is malformed.
      note: receives a line about golden answers that are empty once normalised.

    Returns:
      The numbers of lines judged (`n`), `skipped` and `num_without_golden_answers`; the
      means `em`, `f1` and `cover_em` over the lines with golden answers; `mean_reward`
      over those with a reward, and their number `num_rewards`. Means are None if there
      is nothing to average. If lines have `expected`, also the numbers of lines whose
      expected fields are all `equal` or some `unequal`, and `unequal_ids`, the first
      `MAX_UNEQUAL_IDS` ids of unequal lines.

    Raises:
      ValueError: if the file or the task cannot be read, a line is malformed, or there
        is no line to judge; the error names the line.
    """
    if task_name != "auto":
        task_named(task_name)
    check_local(path, "the file")
    check_local(out or "", "--out")
    if out is not None and Path(out).exists():
        raise ValueError(
            f"{out} already exists; delete it or choose another output file"
        )

    totals, empty, num_skipped = _Totals(), _EmptyAnswers(), 0
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(_written(Path(out))) if out is not None else None
        for where, line in _lines(path):
            try:
                named = _task_of(line)
                if task_name != "auto" and named not in (None, task_name):
                    num_skipped += 1
                    continue
                task = _task_for(line, task_name)
                found = _judge(line, task)
                empty.add(line, task, where.removeprefix(f"{path}, "))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            totals.add(line, found)
            if write is not None:
                write(json.dumps(line | found).encode() + b"\n")
        if not totals.num_lines:
            found = f"{num_skipped} lines name another task: use that one, or 'auto'"
            raise ValueError(
                f"{path}: no line to judge with task {task_name!r}; "
                f"{found if num_skipped else 'the file is empty'}"
            )
        if empty.number:
            note(f"{path}: golden answers that are empty once normalised: {empty}")
    return totals.summary() | {"skipped": num_skipped}


@contextlib.contextmanager
def _written(out: Path) -> Iterator[Callable[[bytes], Any]]:
    """Writes a new file (gz too), which appears only if everything was written.

    Yields:
      A function that appends bytes.
    """
    part = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with part.open("xb") as file, contextlib.ExitStack() as stack:
            whole = file
            if out.name.endswith(".gz"):
                # The gzip header contains a name, and that of `part` is temporary.
                packed = gzip.GzipFile(out.name, "wb", fileobj=file)
                whole = stack.enter_context(packed)
            yield whole.write
        part.rename(out)
    finally:
        part.unlink(missing_ok=True)


def _lines(path: str | Path) -> Iterator[tuple[str, Line]]:
    """Yields (location, object) for each line of the file."""
    for number, raw in read_lines(Path(path)):
        if raw.strip():
            where = f"{path}, line {number}"
            yield where, _parsed(raw, where)


def _parsed(raw: bytes, where: str) -> Line:
    try:
        line = json_value(raw)
    except ValueError as error:
        raise ValueError(f"{where}: not a line of JSON: {error}") from error
    if not isinstance(line, dict):
        raise ValueError(f"{where}: expected an object, got {raw[:40]!r}")
    return line


def _task_of(line: Line) -> str | None:
    """The task that a line names, if any."""
    names = [_field(line, key, str) for key in ("task", "recipe") if key in line]
    if len(set(names)) > 1:
        raise ValueError(
            f"got task {names[0]!r:.80} and recipe {names[1]!r:.80}, which both name "
            "the task of the line; keep one"
        )
    return names[0] if names else None


def _task_for(line: Line, task_name: str) -> Task:
    """The task that judges a line."""
    if task_name == "auto":
        named = _task_of(line)
        if named is None:
            raise ValueError("'task' is missing; add it as a string")
        if ":" in named:
            raise ValueError(
                f"a line may only name a task of jaxsearch, got {named!r:.80}, which "
                "is code; to judge with it, give its name on the command line"
            )
        task_name = named
    task = task_named(task_name)
    if "opened" in line:
        task = task.with_opened(_field(line, "opened", str))
    return task


class _EmptyAnswers:
    """Golden answers that no answer can equal: their number, and the first ones."""

    def __init__(self):
        self.number = 0
        self._named: list[str] = []

    def add(self, line: Line, task: Task, where: str) -> None:
        """Adds the golden answers of a line."""
        for gold in line["golden_answers"]:
            if not task.normalise(gold).strip():
                self.number += 1
                if len(self._named) < NUM_NAMED:
                    self._named.append(f"{gold!r:.40} ({where})")

    def __str__(self) -> str:
        others = self.number - len(self._named)
        return ", ".join(self._named) + (f", and {others:,} more" if others else "")


def _judge(line: Line, task: Task) -> Line:
    """The computed fields, which the output line has in addition to its input."""
    golden_answers = _field(line, "golden_answers", list)
    if not all(isinstance(gold, str) for gold in golden_answers):
        raise ValueError(
            f"expected strings in golden_answers, got {golden_answers!r:.80}"
        )

    found: Line = {}
    if "prediction" in line and "reward" not in line:
        prediction = line["prediction"]
        if not isinstance(prediction, str | None):
            raise ValueError(
                f"prediction must be a string or null, got {prediction!r:.80}"
            )
    else:
        outcome = _outcome(line, task, golden_answers)
        prediction = outcome.prediction
        found = {
            "reward": outcome.reward,
            "parts": outcome.terms,
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
            f"expected names {sorted(unknown)!s:.200}, but task {task.name!r} computes "
            f"only {sorted(found)}"
        )
    return found


def _outcome(line: Line, task: Task, golden_answers: list[str]) -> Outcome:
    is_told = task.uses_end or "ended" in line
    has_ended = is_told and _field(line, "ended", bool)
    if "segments" not in line:
        response = _field(line, "response", str)
        return task.judge_text(
            response, golden_answers, has_ended=has_ended, label="this line"
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
    return task.judge(segments, golden_answers, has_ended=has_ended, label="this line")


def _field(line: Line, name: str, kind: type) -> Any:
    if name not in line:
        raise ValueError(f"{name!r} is missing; add it as {_KINDS[kind]}")
    if not isinstance(line[name], kind):
        came = repr(line[name])[:80]
        raise ValueError(f"{name!r} must be {_KINDS[kind]}, got {came}")
    return line[name]


class _Totals:
    """Running totals for the summary of all lines."""

    def __init__(self):
        self.num_lines = 0
        self._num_without_answers = 0
        self._rewards = array.array("d")
        self._metrics = {name: array.array("d") for name in _METRICS}
        self._num_expecting = 0
        self._num_unequal = 0
        self._unequal_ids: list[Any] = []

    def add(self, line: Line, found: Line) -> None:
        """Adds a line and its results."""
        self.num_lines += 1
        if line["golden_answers"]:
            for name, values in self._metrics.items():
                values.append(found[name])
            if "reward" in found:
                self._rewards.append(found["reward"])
        else:
            self._num_without_answers += 1
        if "expected" in line:
            self._num_expecting += 1
            expected = line["expected"].items()
            if not all(_same(found[name], value) for name, value in expected):
                self._num_unequal += 1
                if self._num_unequal <= MAX_UNEQUAL_IDS and "id" in line:
                    self._unequal_ids.append(line["id"])

    def summary(self) -> dict[str, Any]:
        """The numbers and means of all lines."""
        summary = {
            "n": self.num_lines,
            "mean_reward": _mean(self._rewards),
            "num_rewards": len(self._rewards),
            "num_without_golden_answers": self._num_without_answers,
            **{name: _mean(values) for name, values in self._metrics.items()},
        }
        if self._num_expecting:
            summary["equal"] = self._num_expecting - self._num_unequal
            summary["unequal"] = self._num_unequal
            summary["unequal_ids"] = self._unequal_ids
        return summary


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _same(found: Any, expected: Any) -> bool:
    """Equality, with a tolerance for rounding in sums of numbers."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            _same(found[name], expected[name]) for name in found
        )
    if isinstance(found, float) and isinstance(expected, int | float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return found == expected
