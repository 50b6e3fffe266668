"""Metrics of a step, accumulated as sums and divided once.

Devices, microbatches and processes return a mean as `Mean(total, weight)`. Totals and
weights are summed over the whole step and divided once, because a mean of means is
wrong when batches differ in size.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from jaxsearch.trajectory import SEARCH, Status, Trajectory


@runtime_checkable
class OutcomeLike(Protocol):
    """The fields of `rewards.outcome.Outcome` that metrics and logs read."""

    @property
    def reward(self) -> float: ...
    @property
    def terms(self) -> Mapping[str, float]: ...
    @property
    def reason(self) -> str: ...
    @property
    def prediction(self) -> str | None: ...


class Mean(NamedTuple):
    """A mean stored as total and weight, so that means can be merged exactly.

    Both are scalars: floats, or NumPy or JAX arrays. They may be traced, except in
    `value`.
    """

    total: Any
    weight: Any

    @classmethod
    def of(cls, values: Sequence[float | int]) -> "Mean":
        """The mean of `values`, each with weight 1."""
        return cls(float(sum(values)), float(len(values)))

    @classmethod
    def merged(cls, *means: "Mean") -> "Mean":
        """The mean over the union of the samples of `means`."""
        return cls(
            sum(mean.total for mean in means), sum(mean.weight for mean in means)
        )

    @property
    def value(self) -> float:
        """total / weight; NaN if nothing was measured (weight 0)."""
        weight = float(self.weight)
        return float(self.total) / weight if weight else math.nan


class Max(NamedTuple):
    """A maximum, which is merged by taking the maximum."""

    value: Any

    @classmethod
    def merged(cls, *maxima: "Max") -> "Max":
        """The largest of `maxima`, read on the host; NaN if one is NaN."""
        return cls(float(np.max([float(maximum.value) for maximum in maxima])))


def summarise(metrics: Mapping[str, Any]) -> dict[str, float]:
    """One float for each `Mean`, `Max`, or plain scalar, under the same key.

    The keys are those of a run's `metrics.jsonl`: `reward/*`, `em`, `f1`,
    `searches/{mean,failed,empty,truncated,retries}`, `web/*` of a search of the open
    web (counts per step, as `web.counts` names them; `web/usd` is US dollars),
    `calls/<tool>/{mean,failed,truncated}` of tools other than search,
    `len/{policy,observation,total,think}`, `status/*`, `policy_token_share`,
    `groups_{without_signal,non_finite,drawn,trained}`, `without_advantage` (0 or 1),
    `rollouts_{dropped,overlong,restarted}`, `alarm/*` (0 or 1), `tags_deleted`, `loss`,
    `kl`, `entropy`, `clip_fraction`, `logprob_drift/{mean,max}`, `grad_norm`,
    `time/{rollout,search_wait,update,publish,checkpoint}` in seconds, where
    `search_wait` is included in `rollout`, `publish_bytes`, and
    `tokens_per_s/{policy,total}`. `searches/retries`,
    `searches/failed_tries_{unavailable,connection,timeout,malformed,defect}` (failed
    attempts by kind, see `env.answer_checks`), `groups_non_finite` and `rollouts_*` are
    counts per step; `len/*` are tokens, except `len/think`, which is characters.
    `servers/N/{requests,errors,open}` are counts per step of search server N, and
    whether its circuit breaker is open (with several processes, in how many).
    `groups_{drawn,trained}` are counts of dynamic sampling.
    """
    return {
        key: float(metric.value if isinstance(metric, Mean | Max) else metric)
        for key, metric in metrics.items()
    }


def trajectory_metrics(
    trajectories: Sequence[Trajectory],
    outcomes: Sequence[OutcomeLike],
    *,
    em: Sequence[float | int],
    f1: Sequence[float | int],
    thoughts: Sequence[str],
) -> dict[str, Mean | float]:
    """Metrics of one step's rollouts.

    Means are taken over

    - trajectories that could be judged (those that no failed tool ended):
      `reward/mean`, `reward/<term>` (if the outcome has the term), `em` and `f1`;
    - all trajectories: `searches/mean`, `len/*`, `status/*` (for every status) and
      `tags_deleted` (control tags deleted from passages);
    - all searches: `searches/failed`, `searches/empty` (answered without a passage)
      and `searches/truncated`;
    - groups (the kept trajectories of one prompt): `reward/group_std` (population) and
      `groups_without_signal` (all rewards equal);
    - all tokens, prompts included: `policy_token_share`.

    `rollouts_dropped` counts the trajectories that are not kept.

    Args:
      outcomes, em, f1: one for each trajectory.
      thoughts: the policy's text in each trajectory outside queries and answers, for
        `len/think`.

    Raises:
      ValueError: if there are no trajectories, the lengths differ, or a reward term has
        the name of another metric.
    """
    lengths = {len(values) for values in (trajectories, outcomes, em, f1, thoughts)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "expected as many outcomes, em, f1 and thoughts as trajectories, and at "
            f"least one: got {len(trajectories)} trajectories, {len(outcomes)} "
            f"outcomes, {len(em)} em, {len(f1)} f1, {len(thoughts)} thoughts"
        )
    is_judged = [one.is_judged for one in trajectories]
    return {
        **_reward_metrics(trajectories, outcomes, is_judged),
        "em": Mean.of(list(itertools.compress(em, is_judged))),
        "f1": Mean.of(list(itertools.compress(f1, is_judged))),
        **_search_metrics(trajectories),
        **_call_metrics(trajectories),
        **_token_metrics(trajectories),
        "len/think": Mean.of([len(thought) for thought in thoughts]),
        "rollouts_dropped": float(sum(not one.is_kept for one in trajectories)),
        **{
            f"status/{status}": Mean.of([one.status == status for one in trajectories])
            for status in Status
            # Only a served policy can fail.
            if status is not Status.MODEL_FAILED
        },
    }


def _reward_metrics(
    trajectories: Sequence[Trajectory],
    outcomes: Sequence[OutcomeLike],
    is_judged: Sequence[bool],
) -> dict[str, Mean]:
    terms: dict[str, list[float]] = {}
    groups: dict[int, list[float]] = {}
    for one, outcome, counts in zip(trajectories, outcomes, is_judged, strict=True):
        group = groups.setdefault(one.prompt_index, [])
        if one.is_kept:
            group.append(outcome.reward)
        if counts:
            for name, value in outcome.terms.items():
                terms.setdefault(name, []).append(value)
    if reserved := {"mean", "group_std"} & terms.keys():
        raise ValueError(
            f"a reward term may not be called {sorted(reserved)}: "
            "reward/mean and reward/group_std are reserved"
        )
    rewards = [outcome.reward for outcome in outcomes]
    return {
        "reward/mean": Mean.of(list(itertools.compress(rewards, is_judged))),
        "reward/group_std": Mean.of([float(np.std(g)) for g in groups.values() if g]),
        **{f"reward/{name}": Mean.of(values) for name, values in terms.items()},
        "groups_without_signal": Mean.of([len(set(g)) < 2 for g in groups.values()]),
    }


def _search_metrics(trajectories: Sequence[Trajectory]) -> dict[str, Mean]:
    searches = [search for one in trajectories for search in one.searches]
    is_empty = [not one.passage_ids and not one.has_failed for one in searches]
    return {
        "searches/mean": Mean.of([len(one.searches) for one in trajectories]),
        "searches/failed": Mean.of([search.has_failed for search in searches]),
        "searches/empty": Mean.of(is_empty),
        "searches/truncated": Mean.of([search.is_truncated for search in searches]),
    }


def _call_metrics(trajectories: Sequence[Trajectory]) -> dict[str, Mean]:
    """Metrics of the calls of all tools, and of each tool other than search."""
    calls = [call for one in trajectories for call in one.tool_calls]
    num_deleted_tags = sum(call.num_deleted_tags for call in calls)
    found = {"tags_deleted": Mean(float(num_deleted_tags), float(len(trajectories)))}
    for tool in sorted({call.tool for call in calls} - {SEARCH}):
        own = [call for call in calls if call.tool == tool]
        found |= {
            f"calls/{tool}/mean": Mean(float(len(own)), float(len(trajectories))),
            f"calls/{tool}/failed": Mean.of([call.has_failed for call in own]),
            f"calls/{tool}/truncated": Mean.of([call.is_truncated for call in own]),
        }
    return found


def _token_metrics(trajectories: Sequence[Trajectory]) -> dict[str, Mean]:
    policy = [int(one.is_policy.sum()) for one in trajectories]
    total = [len(one.tokens) for one in trajectories]
    observation = [
        row - one.prompt_len - sampled
        for one, row, sampled in zip(trajectories, total, policy, strict=True)
    ]
    return {
        "len/policy": Mean.of(policy),
        "len/observation": Mean.of(observation),
        "len/total": Mean.of(total),
        "policy_token_share": Mean(float(sum(policy)), float(sum(total))),
    }


def token_rates(
    trajectories: Sequence[Trajectory], values: Mapping[str, float]
) -> dict[str, float]:
    """The metrics `tokens_per_s/*`, computed from `time/rollout` and `time/update`."""
    policy = sum(int(one.is_policy.sum()) for one in trajectories)
    total = sum(len(one.tokens) for one in trajectories)
    seconds = values["time/rollout"] + values["time/update"]
    return {
        "tokens_per_s/policy": policy / values["time/rollout"],
        "tokens_per_s/total": total / seconds,
    }
