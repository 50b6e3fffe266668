"""Files of rollouts: writing and reading.

`rollouts/step_000010.jsonl.gz` has those of a step of training, `before_rl.jsonl.gz`
and `after_rl.jsonl.gz` those of two evaluations on held-out questions.
"""

import dataclasses
import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch import json_lines
from jaxsearch.metrics import OutcomeLike
from jaxsearch.trajectory import Segment, Status, ToolCall, Trajectory

FILE_NAME = re.compile(r"step_(\d{6,})\.jsonl\.gz")


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
        text = gzip.decompress(path.read_bytes()).decode()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error})") from error
    rollouts = []
    # splitlines would also split at other line separators, which texts may contain.
    lines = text.removesuffix("\n").split("\n") if text else []
    for number, line in enumerate(lines, start=1):
        record = json_lines.parse_line(line, path, number)
        try:
            rollouts.append(_logged(record))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: not a rollout ({error!r})"
            ) from error
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


def _logged(record: dict[str, Any]) -> LoggedRollout:
    tool_calls = [
        ToolCall(**{**call, "passage_ids": tuple(call["passage_ids"])})
        for call in _either(record, "tool_calls", "searches")
    ]
    return LoggedRollout(
        question_id=record["id"],
        question=record["question"],
        golden_answers=tuple(record["golden_answers"]),
        prompt_index=_either(record, "prompt_index", "position"),
        sample_index=_either(record, "sample_index", "member"),
        segments=tuple(Segment(**segment) for segment in record["segments"]),
        tool_calls=tuple(tool_calls),
        status=Status(record["status"]),
        total_len=record["total_len"],
        policy_len=record["policy_len"],
        # Only numbers are restored, because a prediction may be the text "NaN".
        reward=json_lines.restored(record["reward"]),
        terms=json_lines.restored(record["parts"]),
        reason=record["reason"],
        prediction=record["prediction"],
        advantage=json_lines.restored(record["advantage"]),
    )


def _either(record: dict[str, Any], name: str, old_name: str) -> Any:
    """Returns a value by its name, or by its name in earlier versions."""
    return record[old_name if old_name in record else name]
