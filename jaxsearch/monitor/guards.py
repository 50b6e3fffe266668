"""Guards against collapse: rollouts excluded from updates, and early alarms."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxsearch.trajectory import Status, Trajectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Guards of RL stages: exclusion of rollouts from updates, and alarms.

    Alarms compare the last steps with the best ones of their stage. An alarm is a
    metric (alarm/*, 1 while it lasts), and a line on the console when it begins.
    """

    drops_non_finite: bool = True
    """Exclude a question's group from the update if the sampler gave one of its tokens
    a log-prob that is not finite, which would make the whole gradient NaN."""
    max_non_finite: int = 5
    """Consecutive steps with a non-finite group after which the run stops."""
    drops_overlong: bool = False
    """Exclude rollouts that ran out of length from the update. By default they are
    trained on, with reward 0, as in ReSearch's code."""
    max_drift: float = 0.1
    """Alarm when the log-probs of sampler and trainer differ by more nats than this
    on average; 0: never. A drift of 0.1 is half of a clip of 0.2. (Measured in float32
    on a CPU: 4e-7.)"""
    drift_steps: int = 3
    """Consecutive steps above max_drift before the alarm begins."""
    signal_steps: int = 5
    """Alarm when in this many consecutive steps no rollout has an advantage, so that
    there is nothing to learn; 0: never."""
    searches_share: float = 0.5
    """Alarm when searches per question fall below this share of their best value while
    the reward has not fallen as far; 0: never."""
    answered_share: float = 0.7
    """Like searches_share, for the share of rollouts with an answer; 0: never."""
    think_share: float = 0.5
    """Like searches_share, for the characters that the policy writes outside queries
    and answers (len/think), which may fall before the score does; 0: never."""
    window: int = 5
    """Steps per window. The three *_share alarms compare the median of the last window
    with the best median of the stage, so that one unusual batch raises no alarm."""
    min_steps: int = 20
    """Steps of a stage before the three *_share alarms can begin."""
    stop_on_alarm: bool = False
    """Stop the run when an alarm begins. The same command continues it."""

    def __post_init__(self):
        for name in ("max_non_finite", "drift_steps", "window"):
            if vars(self)[name] < 1:
                raise ValueError(
                    f"guards.{name} must be at least 1, got {vars(self)[name]}"
                )
        if self.signal_steps < 0:
            raise ValueError(
                "guards.signal_steps must not be negative (0: no alarm), got "
                f"{self.signal_steps}"
            )
        if self.min_steps < self.window:
            raise ValueError(
                f"guards.min_steps ({self.min_steps}) must be at least guards.window "
                f"({self.window}): alarms compare whole windows"
            )
        if not 0 <= self.max_drift < math.inf:
            raise ValueError(
                "guards.max_drift must be finite and not negative (0: no alarm), got "
                f"{self.max_drift}"
            )
        for name, share in self.shares.items():
            if not 0 <= share < 1:
                raise ValueError(
                    f"guards.{name}_share must be in [0, 1) (0: no alarm), got {share}"
                )

    @property
    def shares(self) -> dict[str, float]:
        """Share of its best value below which a signal has broken down, by alarm."""
        return {
            "searches": self.searches_share,
            "answered": self.answered_share,
            "think": self.think_share,
        }


class Signal(NamedTuple):
    """The metric that an alarm watches: its key, and its description."""

    key: str
    title: str


SIGNALS: Mapping[str, Signal] = {
    "drift": Signal("logprob_drift/mean", "|sampler - trainer|, nats per token"),
    "signal": Signal("without_advantage", "no rollout has an advantage"),
    "searches": Signal("searches/mean", "searches per question"),
    "answered": Signal("status/answered", "share of rollouts with an answer"),
    "think": Signal("len/think", "characters of thought per rollout"),
}


class Excluded(NamedTuple):
    """Rollouts excluded from an update: metrics, and questions of non-finite groups."""

    values: dict[str, float]
    question_ids: list[str]


def mark_excluded(
    trajectories: Sequence[Trajectory], config: GuardConfig
) -> tuple[list[Trajectory], Excluded]:
    """Marks the trajectories that are excluded from the update.

    A group is non-finite only because of tokens that the update would read, not
    because of rollouts that are excluded for another reason.
    """
    overlong, broken = set(), {}
    for index, one in enumerate(trajectories):
        if not one.is_kept:
            continue
        if config.drops_overlong and one.status is Status.OUT_OF_LENGTH:
            overlong.add(index)
        elif not _has_finite_logprobs(one):
            broken[one.prompt_index] = one.question_id
    if not config.drops_non_finite:
        broken = {}
    values = {}
    if config.drops_non_finite:
        values["groups_non_finite"] = float(len(broken))
    if config.drops_overlong:
        values["rollouts_overlong"] = float(len(overlong))
    kept = [
        dataclasses.replace(one, is_excluded=True)
        if index in overlong or one.prompt_index in broken
        else one
        for index, one in enumerate(trajectories)
    ]
    return kept, Excluded(values, list(broken.values()))


def _has_finite_logprobs(trajectory: Trajectory) -> bool:
    sampled = np.stack([trajectory.logprobs, trajectory.sampling_logprobs])
    return bool(np.isfinite(sampled[:, trajectory.is_policy]).all())


def alarms(lines: Sequence[Mapping[str, Any]], config: GuardConfig) -> dict[str, float]:
    """`alarm/<name>` for the last line of a stage: 1.0 while the alarm is on.

    A breakdown alarm begins only while the reward holds, because afterwards it would
    come too late. It lasts until its signal recovers, even if the reward falls too.

    Args:
      lines: metrics of the stage by step; all but the last include alarms.
    """
    found = {}
    if config.max_drift:
        drifts = _recent("drift", lines, config.drift_steps)
        found["alarm/drift"] = float(all(one > config.max_drift for one in drifts))
    if config.signal_steps:
        without = _recent("signal", lines, config.signal_steps)
        found["alarm/signal"] = float(all(one == 1.0 for one in without))
    for name, share in config.shares.items():
        if share:
            found[f"alarm/{name}"] = float(_is_breaking_down(name, lines, config))
    return found


def _recent(name: str, lines: Sequence[Mapping[str, Any]], num: int) -> list[float]:
    """A signal in the last `num` steps; NaN for steps that did not measure it."""
    values = [line.get(SIGNALS[name].key, math.nan) for line in lines[-num:]]
    return values + [math.nan] * (num - len(values))


def likely_cause(line: Mapping[str, Any]) -> str:
    """Why no rollout of a step has an advantage, by its metrics, and what to try."""
    answered = line.get("status/answered", math.nan)
    searches, em = line.get("searches/mean", math.nan), line.get("em", math.nan)
    if answered == 0.0:
        written = "no rollout ends with an answer in the task's tags"
        if searches == 0.0:
            written = "the policy writes none of the task's tags: no search, no answer"
        cut = line.get("status/out_of_length", 0.0)
        longer = f", or give rollouts more tokens ({cut:.0%} ran out)" * (cut > 0.0)
        return (
            f"{written}; read a rollout and its prompt (`jaxsearch prompt CONFIG`), "
            f"start from a policy that follows it or from a supervised stage{longer}"
        )
    if em == 1.0:
        return (
            "every answer is right; choose harder questions, for example with "
            "`jaxsearch select --min-tries 2`"
        )
    if em == 0.0:
        return (
            "every answer is wrong; check that the searches find passages with the "
            "answers, choose easier questions (`jaxsearch select --max-tries K`), or "
            "raise group_size"
        )
    return (
        "the answers to each question earn the same reward; raise group_size or the "
        "temperature, or choose questions that are neither too easy nor too hard "
        "(`jaxsearch select`)"
    )


def _is_breaking_down(
    name: str, lines: Sequence[Mapping[str, Any]], config: GuardConfig
) -> bool:
    key, share = SIGNALS[name].key, config.shares[name]
    # Lines of earlier versions may lack the metric, and a step in which every search
    # failed has no reward.
    measured = [
        line
        for line in lines
        if all(math.isfinite(line.get(k, math.nan)) for k in (key, "reward/mean"))
    ]
    if len(measured) < config.min_steps:
        return False
    was_on = len(lines) > 1 and lines[-2].get(f"alarm/{name}") == 1.0
    return _has_fallen(key, measured, config.window, share) and (
        was_on or not _has_fallen("reward/mean", measured, config.window, share)
    )


def _has_fallen(
    key: str, lines: Sequence[Mapping[str, Any]], window: int, share: float
) -> bool:
    recent, best = recent_and_best(key, lines, window)
    # Equals share * best if best is positive; rewards may be negative.
    return recent < best - (1 - share) * abs(best)


def recent_and_best(
    key: str, lines: Sequence[Mapping[str, Any]], window: int
) -> tuple[float, float]:
    """The median of the last `window` lines, and the highest median of any window."""
    values = np.array([line[key] for line in lines])
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    medians = np.median(windows, axis=-1)
    return float(medians[-1]), float(medians.max())
