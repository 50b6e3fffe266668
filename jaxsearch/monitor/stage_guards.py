"""The guards of a running stage: alarms by step, and reasons to stop the run."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from jaxsearch.monitor.guards import (
    SIGNALS,
    Excluded,
    GuardConfig,
    alarms,
    likely_cause,
    recent_and_best,
)

_NUM_SHOWN = 10  # ids of questions in an error


@dataclasses.dataclass(kw_only=True)
class StageGuards:
    """The guards of a running stage.

    Their metrics depend only on `lines`, which are those of metrics.jsonl, so a resumed
    run writes the same metrics. `question_ids` of earlier steps are lost on resuming.

    Attributes:
      lines: metrics of the stage's steps so far.
      question_ids: questions of the groups that were not finite, by step.
      notices: texts of the alarms that began at the last step, by name.
    """

    config: GuardConfig
    lines: list[Mapping[str, Any]]
    question_ids: dict[int, list[str]] = dataclasses.field(default_factory=dict)
    notices: dict[str, str] = dataclasses.field(default_factory=dict)

    def close_step(
        self, step: int, values: Mapping[str, float], excluded: Excluded
    ) -> dict[str, float]:
        """Adds a step and returns its guard metrics."""
        line = {**values, **excluded.values, "step": step}
        found = alarms([*self.lines, line], self.config)
        before = self.lines[-1] if self.lines else {}
        self.lines.append(line | found)
        if excluded.question_ids:
            self.question_ids[step] = excluded.question_ids
        self.notices = {
            name: self._notice(name)
            for name in SIGNALS
            if found.get(f"alarm/{name}") and not before.get(f"alarm/{name}")
        }
        return excluded.values | found

    @property
    def should_log_rollouts(self) -> bool:
        """Whether the last step's rollouts should be written for the user to read."""
        return bool(self.notices) or self.lines[-1]["step"] in self.question_ids

    @property
    def failure(self) -> str:
        """The reason to stop the run after the last step; empty to continue."""
        is_broken = [line.get("groups_non_finite", 0.0) > 0 for line in self.lines]
        num = sum(1 for _ in itertools.takewhile(bool, reversed(is_broken)))
        if num >= self.config.max_non_finite:
            steps = [line["step"] for line in self.lines[-num:]]
            ids = [id_ for step in steps for id_ in self.question_ids.get(step, [])]
            ids = list(dict.fromkeys(ids))
            more = len(ids) - _NUM_SHOWN
            shown = ", ".join(ids[:_NUM_SHOWN]) + (f" and {more} more" * (more > 0))
            # Those of steps before a run was resumed are not known.
            shown = f" (questions {shown})" * bool(ids)
            return (
                f"the sampler's log-probs in each of steps {steps[0]} to {steps[-1]} "
                "were not finite, so whole groups were excluded from the updates"
                f"{shown}; lower the learning rate, set "
                "model.dtype to float32, or look at the rollouts of those steps"
            )
        if self.notices and self.config.stop_on_alarm:
            return (
                f"alarm {', '.join(self.notices)} began at step "
                f"{self.lines[-1]['step']}, and guards.stop_on_alarm is set; the same "
                "command continues the run"
            )
        return ""

    def _notice(self, name: str) -> str:
        """One line for the console: the values, and common remedies."""
        line, (key, title) = self.lines[-1], SIGNALS[name]
        where = f"alarm {name}, step {line['step']}: {title}"
        look = f"look at the rollouts of step {line['step']}"
        if name == "drift":
            return (
                f"{where} {line[key]:.3g}, above {self.config.max_drift:g} for "
                f"{self.config.drift_steps} steps; usual remedies: float32 in "
                "model.dtype, plain model.attention, truncated importance sampling; "
                f"{look}."
            )
        if name == "signal":
            return (
                f"{where}, now for {self.config.signal_steps} steps (reward "
                f"{line['reward/mean']:.3g}), so nothing was learned; likely cause: "
                f"{likely_cause(line)}; {look}."
            )
        measured = [one for one in self.lines if key in one]
        recent, best = recent_and_best(key, measured, self.config.window)
        return (
            f"{where} {recent:.3g}, at their best {best:.3g} (medians of "
            f"{self.config.window} steps), while the reward holds at "
            f"{line['reward/mean']:.3g}; usual remedies: a higher KL weight, a lower "
            f"learning rate or clip; {look}."
        )
