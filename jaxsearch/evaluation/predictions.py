"""Files of an evaluation: `results.json` and `predictions.jsonl`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsearch.json_lines import replace_json, replace_lines
from jaxsearch.local_paths import check_local
from jaxsearch.monitor.rollout_log import opened_field
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.tasks import Task
from jaxsearch.trajectory import Trajectory

# Columns of a question's row that results use.
_KEPT_METADATA = ("hops", "type", "supporting_titles")


def is_new(folder: Path) -> bool:
    """Whether nothing would be overwritten in a folder.

    Raises:
      ValueError: if it is not on this machine.
    """
    check_local(folder, "the folder of an evaluation")
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
    write_results(folder, results)


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Writes `results.json`."""
    replace_json(folder / "results.json", dict(results))


def prediction_line(
    trajectory: Trajectory,
    outcome: Outcome,
    scores: dict[str, float],
    set_name: str = "",
) -> dict[str, Any]:
    """One line of `predictions.jsonl`, which `jaxsearch score` can read.

    All metrics of an evaluation can be computed from these lines.

    Args:
      trajectory: the rollout.
      outcome: its reward and prediction.
      scores: its em, f1 and cover_em with the task's normaliser.
      set_name: name of the set of questions; "" for the only one.
    """
    metadata = trajectory.metadata
    return {
        **({"set": set_name} if set_name else {}),
        "id": trajectory.question_id,
        "sample": trajectory.sample_index,
        "question": trajectory.question,
        "golden_answers": list(trajectory.golden_answers),
        "metadata": {
            name: metadata[name] for name in _KEPT_METADATA if name in metadata
        },
        "prediction": outcome.prediction,
        "segments": [dataclasses.asdict(segment) for segment in trajectory.segments],
        "ended": trajectory.has_ended,
        "status": str(trajectory.status),
        "searches": [dataclasses.asdict(call) for call in trajectory.searches],
        "calls": [call.tool for call in trajectory.tool_calls],
        "policy_len": int(trajectory.is_policy.sum()),
        "reward": outcome.reward,
        "reason": outcome.reason,
        **scores,
        **({"is_encoded_again": True} if trajectory.is_encoded_again else {}),
    }


def token_fields(trajectory: Trajectory) -> dict[str, Any]:
    """The tokens of a rollout, as additional fields of its line.

    `ids` has all token ids, including the prompt. `policy_spans` has pairs of start and
    end of the policy's tokens. `logprobs` has one number per policy token, in nats, or
    null where a model server reported none.
    """
    is_policy = np.concatenate([[False], trajectory.is_policy, [False]])
    bounds = np.flatnonzero(np.diff(is_policy.astype(np.int8)))
    logprobs = trajectory.logprobs[trajectory.is_policy]
    return {
        "ids": trajectory.tokens.tolist(),
        "policy_spans": bounds.reshape(-1, 2).tolist(),
        "logprobs": [None if np.isnan(one) else float(one) for one in logprobs],
    }
