"""Files of an evaluation: `results.json` and `predictions.jsonl`."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch.json_lines import replace_file, replace_lines
from jaxsearch.monitor.rollout_log import opened_field
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.tasks import Task
from jaxsearch.trajectory import Trajectory


def is_new(folder: Path) -> bool:
    """Whether nothing would be overwritten in a folder."""
    return not folder.exists() or folder.is_dir() and not any(folder.iterdir())


def write_evaluation(
    folder: Path,
    results: Mapping[str, Any],
    lines: Sequence[tuple[Trajectory, Outcome, dict[str, float]]],
    task: Task,
) -> None:
    """Writes the files of an evaluation.

    Args:
      folder: made if it does not exist.
      results: the contents of `results.json`.
      lines: each trajectory with its outcome and its em, f1 and cover_em.
      task: the task that judged them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun = opened_field(task.protocol.opened)
    replace_lines(
        folder / "predictions.jsonl", (prediction_line(*line) | begun for line in lines)
    )
    replace_file(folder / "results.json", json.dumps(results, indent=2).encode())


def prediction_line(
    trajectory: Trajectory, outcome: Outcome, scores: dict[str, float]
) -> dict[str, Any]:
    """One line of `predictions.jsonl`, which `jaxsearch score` can read."""
    return {
        "id": trajectory.question_id,
        "question": trajectory.question,
        "golden_answers": list(trajectory.golden_answers),
        "prediction": outcome.prediction,
        "segments": [dataclasses.asdict(segment) for segment in trajectory.segments],
        "ended": trajectory.has_ended,
        "status": str(trajectory.status),
        "searches": [dataclasses.asdict(call) for call in trajectory.searches],
        "reward": outcome.reward,
        "reason": outcome.reason,
        **scores,
    }
