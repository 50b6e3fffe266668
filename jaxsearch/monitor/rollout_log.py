"""A step's rollouts on disk, to be read again: `rollouts/step_000010.jsonl.gz`."""

import dataclasses
import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch import json_lines
from jaxsearch.metrics import Judgement
from jaxsearch.trajectory import Search, Segment, Status, Trajectory

FILE_NAME = re.compile(r"step_(\d{6,})\.jsonl\.gz")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggedRollout:
    """A trajectory and its judgement as text, without token ids.

    Attributes:
      position: where its question stood in the question stream.
      member: its index in the group of that question.
      total_len: tokens of the row, prompt included.
      policy_len: of those, sampled by the policy.
      advantage: None where it was not written, or the update left the rollout out.
    """

    question_id: str
    question: str
    golden_answers: tuple[str, ...]
    position: int
    member: int
    segments: tuple[Segment, ...]
    searches: tuple[Search, ...]
    status: Status
    total_len: int
    policy_len: int
    reward: float
    parts: Mapping[str, float]
    reason: str
    prediction: str | None
    advantage: float | None


def rollout_path(run_folder: Path, step: int) -> Path:
    """Where the rollouts of `step` are."""
    return run_folder / "rollouts" / f"step_{step:06d}.jsonl.gz"


def rollout_files(run_folder: Path) -> dict[int, Path]:
    """The run's files of rollouts by step, in order; other files are passed over."""
    found = {}
    for path in (run_folder / "rollouts").glob("*.jsonl.gz"):
        if match := FILE_NAME.fullmatch(path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def write_rollouts(
    path: Path,
    trajectories: Sequence[Trajectory],
    outcomes: Sequence[Judgement],
    *,
    advantages: Sequence[float | None] | None = None,
) -> None:
    """Writes one line for each trajectory; the same ones give the same bytes.

    `jaxsearch score` reads these lines: they carry `segments`, `golden_answers` and
    `ended`.
    """
    written = [None] * len(trajectories) if advantages is None else advantages
    lines = [
        json_lines.encode(_record(trajectory, outcome, advantage)) + "\n"
        for trajectory, outcome, advantage in zip(
            trajectories, outcomes, written, strict=True
        )
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    json_lines.replace_file(path, gzip.compress("".join(lines).encode(), mtime=0))


def read_rollouts(path: Path) -> list[LoggedRollout]:
    """The rollouts of one file; the error of a malformed line names its place."""
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error})") from error
    rollouts = []
    # Not splitlines: a question may hold other line separators than JSON's.
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
    trajectory: Trajectory, outcome: Judgement, advantage: float | None
) -> dict[str, Any]:
    return {
        "id": trajectory.question_id,
        "question": trajectory.question,
        "golden_answers": trajectory.golden_answers,
        "position": trajectory.position,
        "member": trajectory.member,
        "segments": [dataclasses.asdict(segment) for segment in trajectory.segments],
        "searches": [dataclasses.asdict(search) for search in trajectory.searches],
        "status": str(trajectory.status),
        "ended": trajectory.has_ended,
        "total_len": len(trajectory.tokens),
        "policy_len": int(trajectory.is_policy.sum()),
        "reward": float(outcome.reward),
        "parts": {name: float(value) for name, value in outcome.parts.items()},
        "reason": outcome.reason,
        "prediction": outcome.prediction,
        "advantage": None if advantage is None else float(advantage),
    }


def _logged(record: dict[str, Any]) -> LoggedRollout:
    searches = [
        Search(**{**search, "passage_ids": tuple(search["passage_ids"])})
        for search in record["searches"]
    ]
    return LoggedRollout(
        question_id=record["id"],
        question=record["question"],
        golden_answers=tuple(record["golden_answers"]),
        position=record["position"],
        member=record["member"],
        segments=tuple(Segment(**segment) for segment in record["segments"]),
        searches=tuple(searches),
        status=Status(record["status"]),
        total_len=record["total_len"],
        policy_len=record["policy_len"],
        # Only numbers are restored: a prediction may read "NaN".
        reward=json_lines.restored(record["reward"]),
        parts=json_lines.restored(record["parts"]),
        reason=record["reason"],
        prediction=record["prediction"],
        advantage=json_lines.restored(record["advantage"]),
    )
