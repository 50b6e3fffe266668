"""Guards against collapse: what no update may see, and what to look at in time."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxsearch.trajectory import Status, Trajectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What keeps a collapse out of the updates of RL, and what tells of one early.

    Alarms compare the last steps with the best ones of their stage; they are metrics
    (alarm/*, 1 while it lasts) and a line on the console when one begins.
    """

    drops_non_finite: bool = True
    """Leave a question's group out of the update if the sampler gave a token of it a
    log-prob that is not finite: one would make the whole gradient NaN."""
    max_non_finite: int = 5
    """Steps in a row with such a group after which the run stops."""
    drops_overlong: bool = False
    """Leave rollouts that ran out of length out of the update, as those whose search
    failed are. ReSearch's code trains on them, with reward 0: so does the default."""
    max_drift: float = 0.1
    """Alarm when the log-probs of sampler and trainer differ by more nats than this
    on the average; 0: never. At 0.1 the difference alone is half of a clip of 0.2.
    (Measured in float32 on a CPU: 4e-7.)"""
    drift_steps: int = 3
    """Steps in a row that it takes."""
    searches_share: float = 0.5
    """Alarm when searches a question fall below this share of their best while the
    reward has not fallen by as much; 0: never."""
    answered_share: float = 0.7
    """As searches_share, of the share of rollouts that end with an answer, which a
    policy that does well hardly ever misses; 0: never."""
    think_share: float = 0.5
    """As searches_share, of the characters that the policy writes besides queries and
    answers (len/think): thought broke down before the score in others' runs; 0: never.
    """
    window: int = 5
    """Steps whose median these three compare with that of the best as many in the
    stage, so that one odd batch of questions is no alarm."""
    min_steps: int = 20
    """Steps of a stage before which these three are silent."""
    stop_on_alarm: bool = False
    """Stop the run when an alarm begins. Started again, it goes on."""

    def __post_init__(self):
        for name in ("max_non_finite", "drift_steps", "window"):
            if vars(self)[name] < 1:
                raise ValueError(
                    f"guards.{name} must be at least 1, got {vars(self)[name]}"
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
        """Of its best, below which a signal has broken down; by alarm."""
        return {
            "searches": self.searches_share,
            "answered": self.answered_share,
            "think": self.think_share,
        }


class Signal(NamedTuple):
    """What an alarm watches: the key of a metric, and what it is in words."""

    key: str
    title: str


SIGNALS: Mapping[str, Signal] = {
    "drift": Signal("logprob_drift/mean", "|sampler - trainer|, nats a token"),
    "searches": Signal("searches/mean", "searches a question"),
    "answered": Signal("status/answered", "share of rollouts with an answer"),
    "think": Signal("len/think", "characters of thought a rollout"),
}


class Excluded(NamedTuple):
    """What is kept from an update: numbers for the metrics, and whose groups."""

    values: dict[str, float]
    question_ids: list[str]


def mark_excluded(
    trajectories: Sequence[Trajectory], config: GuardConfig
) -> tuple[list[Trajectory], Excluded]:
    """The same trajectories, but those that no update may use are not kept.

    Only tokens that an update would read can make a group not finite: those of
    rollouts that are left out by themselves do not.
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
    """`alarm/<name>` of the last of a stage's lines: 1.0 while it is on.

    An alarm of a breakdown begins only while the reward holds: it is of no use
    later. It lasts until its signal is back, also when the reward follows it down.

    Args:
      lines: the stage's metrics by step; all but the last with the alarms they had.
    """
    found = {}
    if config.max_drift:
        key = SIGNALS["drift"].key
        recent = [line.get(key, math.nan) for line in lines[-config.drift_steps :]]
        is_on = all(drift > config.max_drift for drift in recent)
        found["alarm/drift"] = float(is_on and len(recent) == config.drift_steps)
    for name, share in config.shares.items():
        if share:
            found[f"alarm/{name}"] = float(_is_breaking_down(name, lines, config))
    return found


def _is_breaking_down(
    name: str, lines: Sequence[Mapping[str, Any]], config: GuardConfig
) -> bool:
    key, share = SIGNALS[name].key, config.shares[name]
    # A run that an earlier version began may have lines without it, and where every
    # search failed there is no reward.
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
    # share * best where that is positive; rewards may be negative.
    return recent < best - (1 - share) * abs(best)


def recent_and_best(
    key: str, lines: Sequence[Mapping[str, Any]], window: int
) -> tuple[float, float]:
    """The median of the last `window` lines, and the highest of any as many."""
    values = np.array([line[key] for line in lines])
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    medians = np.median(windows, axis=-1)
    return float(medians[-1]), float(medians.max())
