"""Changes to a run's config that a resumed run accepts, and their record."""

import itertools
from pathlib import Path
from typing import Any

import jax

from jaxsearch import json_lines
from jaxsearch.config import RunConfig, SupervisedStage
from jaxsearch.run.checkpoint import newest_step
from jaxsearch.run.config_fields import differing_fields
from jaxsearch.run.config_record import CHANGEABLE
from jaxsearch.run.folder import read_record, read_run_config


def changes(config: RunConfig, newest: int | None = None) -> dict[str, list[Any]]:
    """The fields that differ from the run's record: [there, here], by path.

    Only fields that may change, because `folder.check_identity` rejects others.
    Includes the number of devices, as "devices". {} for a new run.

    Args:
      config: the run's config.
      newest: step after which checkpoints do not count; None for no limit.

    Raises:
      ValueError: if one is the number of steps of a stage that has ended.
    """
    folder = Path(config.out)
    if not (folder / "config.json").is_file():
        return {}
    there = read_run_config(folder)
    different = differing_fields(there, config)
    last = (newest_step(folder) or 0) if newest is None else newest
    found = {path: pair for path, pair in different.items() if _may_change(path)}
    ends = itertools.accumulate(there.num_steps(stage) for stage in there.stages)
    for number, (stage, end) in enumerate(zip(there.stages, ends, strict=True)):
        names = [f"stages.{number}.steps"]
        if isinstance(stage, SupervisedStage):
            names.append("warmup_steps")
        for name in found.keys() & set(names):
            if last > end:
                raise ValueError(
                    f"{name} cannot change: stage {stage.name!r} of {folder} has "
                    f"ended, at step {end} of the run; leave it at {found[name][0]}"
                )
    num_devices = [len(read_record(folder).get("devices", ())), jax.device_count()]
    if num_devices[0] != num_devices[1]:
        found["devices"] = num_devices
    return found


def record_changes(config: RunConfig, found: dict[str, list[Any]]) -> str:
    """Appends changes to `changes.jsonl`, with the step after which they apply.

    Args:
      config: the run's config.
      found: what `changes` returned.

    Returns:
      The line that tells the user; "" without changes.
    """
    if not found:
        return ""
    step = newest_step(Path(config.out)) or 0
    path = Path(config.out) / "changes.jsonl"
    for field, (before, after) in found.items():
        line = {"step": step, "field": field, "before": before, "after": after}
        json_lines.append_line(path, line)
    said = (f"{field} from {a} to {b}" for field, (a, b) in found.items())
    return f"changed after step {step}, and recorded in {path}: {', '.join(said)}"


def _may_change(path: str) -> bool:
    section, _, field = path.partition(".")
    names = CHANGEABLE.get(section, ())
    is_limit = path in ("steps", "warmup_steps")
    return is_limit or any(f".{field}".endswith(f".{name}") for name in names)
