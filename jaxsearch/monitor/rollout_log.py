"""Files of rollouts: writing and reading.

`rollouts/step_000010.jsonl.gz` has those of a step of training, `before_rl.jsonl.gz`
and `after_rl.jsonl.gz` those of two evaluations on held-out questions.
"""

import dataclasses
import gzip
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch import json_lines
from jaxsearch.bounded_files import read_bytes
from jaxsearch.json_types import typed
from jaxsearch.metrics import OutcomeLike
from jaxsearch.trajectory import Segment, Status, ToolCall, Trajectory

FILE_NAME = re.compile(r"step_(\d{6,})\.jsonl\.gz")
# Held-out evaluations whose rollouts are written.
HELDOUT_NAMES = ("before_rl", "after_rl")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggedRollout:
    """A trajectory and its judgement as text, without token ids.

    Lengths are in tokens.

    Attributes:
      prompt_index: index of its question in the question stream.
      sample_index: index of the sample in the group of that question.
      total_len: length of the row, prompt included.
      policy_len: tokens sampled by the policy.
      advantage: one value, or one per policy turn; None if it was not written, or if
        the rollout was excluded from the update.
    """

    question_id: str
    question: str
    golden_answers: tuple[str, ...]
    prompt_index: int
    sample_index: int
    segments: tuple[Segment, ...]
    tool_calls: tuple[ToolCall, ...]
    status: Status
    total_len: int
    policy_len: int
    reward: float
    terms: Mapping[str, float]
    reason: str
    prediction: str | None
    advantage: float | list[float] | None


def rollout_path(run_folder: Path, step: int) -> Path:
    """Path of the file with the rollouts of a step."""
    return run_folder / "rollouts" / f"step_{step:06d}.jsonl.gz"


def heldout_rollouts_path(run_folder: Path, name: str) -> Path:
    """Path of the file with the rollouts of a held-out evaluation, by its name."""
    return run_folder / "rollouts" / f"{name}.jsonl.gz"


def rollout_files(run_folder: Path) -> dict[int, Path]:
    """Returns the run's rollout files by step, in order; ignores other files."""
    found = {}
    for path in (run_folder / "rollouts").glob("*.jsonl.gz"):
        if match := FILE_NAME.fullmatch(path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def write_rollouts(
    path: Path,
    trajectories: Sequence[Trajectory],
    outcomes: Sequence[OutcomeLike],
    *,
    advantages: Sequence[float | list[float] | None] | None = None,
    opened: str = "",
) -> None:
    """Writes one line per trajectory; equal trajectories give equal bytes.

    The lines have `segments`, `golden_answers` and `ended`, as read by
    `jaxsearch score`, and `opened` if prompts have opened a tag of the reply.
    """
    written = [None] * len(trajectories) if advantages is None else advantages
    lines = [
        json_lines.encode(
            _record(trajectory, outcome, advantage) | opened_field(opened)
        )
        + "\n"
        for trajectory, outcome, advantage in zip(
            trajectories, outcomes, written, strict=True
        )
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    json_lines.replace_file(path, gzip.compress("".join(lines).encode(), mtime=0))


def opened_field(opened: str) -> dict[str, str]:
    """The field of a line with the tag that its prompt opened; {} for none.

    `jaxsearch score` reads it.
    """
    return {"opened": opened} if opened else {}


def read_rollouts(path: Path) -> list[LoggedRollout]:
    """Reads the rollouts of one file.

    Raises:
      ValueError: if the file is damaged or a line is malformed; the message names the
        file and the line.
    """
    try:
        text = read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason})") from None
    rollouts = []
    # splitlines would also split at other line separators, which texts may contain.
    lines = text.removesuffix("\n").split("\n") if text else []
    for number, line in enumerate(lines, start=1):
        record = json_lines.parse_line(line, path, number)
        try:
            rollouts.append(_logged(record))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not a rollout: {error}") from None
    return rollouts


def _record(
    trajectory: Trajectory, outcome: OutcomeLike, advantage: float | list[float] | None
) -> dict[str, Any]:
    return {
        "id": trajectory.question_id,
        "question": trajectory.question,
        "golden_answers": trajectory.golden_answers,
        "prompt_index": trajectory.prompt_index,
        "sample_index": trajectory.sample_index,
        "segments": [dataclasses.asdict(segment) for segment in trajectory.segments],
        "tool_calls": [dataclasses.asdict(call) for call in trajectory.tool_calls],
        "status": str(trajectory.status),
        "ended": trajectory.has_ended,
        "total_len": len(trajectory.tokens),
        "policy_len": int(trajectory.is_policy.sum()),
        "reward": float(outcome.reward),
        "parts": {name: float(value) for name, value in outcome.terms.items()},
        "reason": outcome.reason,
        "prediction": outcome.prediction,
        "advantage": advantage,
    }


# Field of a line by field of the rollout, with the names of earlier versions.
_NAMES = {
    "id": "question_id",
    "parts": "terms",
    "searches": "tool_calls",
    "position": "prompt_index",
    "member": "sample_index",
}
# Only numbers are restored, because a prediction may be the text "NaN".
_NUMBERS = ("reward", "terms", "advantage")


def _logged(record: dict[str, Any]) -> LoggedRollout:
    """Parses the rollout in a line.

    Raises:
      ValueError: if a field is missing or of another type.
    """
    known = {field.name for field in dataclasses.fields(LoggedRollout)}
    fields = {_NAMES.get(k, k): v for k, v in record.items()}
    fields = {name: value for name, value in fields.items() if name in known}
    for name in _NUMBERS:
        if name in fields:
            fields[name] = json_lines.restored(fields[name])
    return typed(fields, LoggedRollout, "the line")
