"""Removes what a run wrote after the step from which it continues."""

from pathlib import Path

from jaxsearch.monitor.rollout_log import (
    HELDOUT_NAMES,
    heldout_rollouts_path,
    rollout_files,
)
from jaxsearch.monitor.writers import cut_back, read_evaluations


def remove_later(run_folder: Path, step: int) -> None:
    """Removes metrics, evaluations and rollouts after a step, which is repeated.

    A step is not written again with the same rollouts if its settings have changed, so
    a report would show those of two runs.
    """
    for number, path in rollout_files(run_folder).items():
        if number > step:
            path.unlink()
    # Before the lines, which tell whose rollouts these files have: the last ones'.
    last = {line["name"]: line["step"] for line in read_evaluations(run_folder)}
    for name in HELDOUT_NAMES:
        if name not in last or last[name] > step:
            heldout_rollouts_path(run_folder, name).unlink(missing_ok=True)
    for name in ("metrics.jsonl", "eval.jsonl"):
        cut_back(run_folder / name, step)
