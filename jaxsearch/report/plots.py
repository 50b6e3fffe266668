"""The charts in a run's report."""

import dataclasses
from collections.abc import Mapping

from jaxsearch.monitor.guards import SIGNALS
from jaxsearch.trajectory import Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """A chart, drawn if the run has any of its metrics.

    Attributes:
      title: heading of the chart.
      unit: unit of its values.
      lines: keys of the metrics, by label.
      evaluation: key of the evaluations that are drawn as markers; empty for none.
      is_stacked: whether the metrics are drawn as stacked areas.
      is_by_stage: whether each stage has its own chart, because scales differ.
    """

    title: str
    unit: str
    lines: Mapping[str, str]
    evaluation: str = ""
    is_stacked: bool = False
    is_by_stage: bool = False


PLOTS = (
    Plot(title="Reward", unit="mean per step", lines={"reward": "reward/mean"}),
    Plot(
        title="Exact match",
        unit="share of answers",
        lines={"training": "em"},
        evaluation="em",
    ),
    Plot(title="F1", unit="word overlap", lines={"training": "f1"}, evaluation="f1"),
    Plot(
        title="Searches",
        unit="per question",
        lines={"training": "searches/mean"},
        evaluation="searches_per_question",
    ),
    Plot(
        title="Searches with problems",
        unit="share of searches",
        lines={
            "failed": "searches/failed",
            "no passage": "searches/empty",
            "truncated": "searches/truncated",
        },
    ),
    Plot(
        title="Retries of searches",
        unit="per step",
        lines={"retries": "searches/retries"},
    ),
    Plot(
        title="Excluded from updates",
        unit="per step",
        lines={
            "rollouts": "rollouts_dropped",
            "of these, too long": "rollouts_overlong",
            "groups not finite": "groups_non_finite",
        },
    ),
    Plot(
        title="Rollouts restarted",
        unit="per step, because the cache was full",
        lines={"rollouts": "rollouts_restarted"},
    ),
    Plot(
        title="Length",
        unit="tokens per trajectory",
        lines={
            "written by the policy": "len/policy",
            "retrieved": "len/observation",
            "total, with prompt": "len/total",
        },
    ),
    Plot(
        title="Thought",
        unit="characters per trajectory",
        lines={"without queries and answers": "len/think"},
    ),
    Plot(
        title="Policy tokens",
        unit="share of all tokens",
        lines={"policy": "policy_token_share"},
    ),
    Plot(
        title="How trajectories ended",
        unit="share of trajectories",
        lines={status.replace("_", " "): f"status/{status}" for status in Status},
        is_stacked=True,
    ),
    Plot(
        title="Spread of rewards",
        unit="std per group",
        lines={"std": "reward/group_std"},
    ),
    Plot(
        title="Groups without signal",
        unit="share with equal rewards",
        lines={"groups": "groups_without_signal"},
    ),
    Plot(
        title="Tags deleted from passages",
        unit="per trajectory",
        lines={"tags": "tags_deleted"},
    ),
    Plot(title="Loss", unit="", lines={"loss": "loss"}, is_by_stage=True),
    Plot(title="KL from the reference", unit="nats per token", lines={"kl": "kl"}),
    Plot(title="Entropy", unit="nats per token", lines={"entropy": "entropy"}),
    Plot(
        title="Gradient norm",
        unit="before clipping",
        lines={"norm": "grad_norm"},
        is_by_stage=True,
    ),
    Plot(
        title="Updates left out",
        unit="per step",
        lines={"not finite": "skipped", "without an advantage": "without_advantage"},
    ),
    Plot(
        title="Clipped ratios",
        unit="share of policy tokens",
        lines={"clipped": "clip_fraction"},
    ),
    Plot(
        title="Sampler against trainer",
        unit="|Δ log-prob|, nats",
        lines={"mean": "logprob_drift/mean", "max": "logprob_drift/max"},
    ),
    Plot(
        title="Speed",
        unit="tokens per second",
        lines={"all": "tokens_per_s/total", "policy": "tokens_per_s/policy"},
    ),
    Plot(
        title="Weights copied to rollouts",
        unit="bytes per step",
        lines={"bytes": "publish_bytes"},
    ),
    Plot(
        title="Time of a step",
        unit="seconds",
        lines={
            "decode": "time/decode",
            "wait for search": "time/search_wait",
            "update": "time/update",
            "publish": "time/publish",
            "checkpoint": "time/checkpoint",
        },
        is_stacked=True,
        is_by_stage=True,
    ),
)
# Keys without a separate chart: used in derived charts or tables, or not metrics.
NOT_PLOTTED_ALONE = (
    *("time/rollout", "step", "stage"),
    *(f"alarm/{name}" for name in SIGNALS),
)
