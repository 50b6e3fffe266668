"""Which charts a run's report has, as a table."""

import dataclasses
from collections.abc import Mapping

from jaxsearch.monitor.guards import SIGNALS
from jaxsearch.trajectory import Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """A chart to draw where there is something to draw.

    Attributes:
      lines: label -> key of the metric.
      evaluation: key of the evaluations drawn as dots; none when empty.
      is_by_stage: a chart for each stage, for values whose scales differ.
    """

    title: str
    unit: str
    lines: Mapping[str, str]
    evaluation: str = ""
    is_stacked: bool = False
    is_by_stage: bool = False


PLOTS = (
    Plot(title="Reward", unit="mean of a step", lines={"reward": "reward/mean"}),
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
        title="Searches that brought less",
        unit="share of searches",
        lines={
            "failed": "searches/failed",
            "no passage": "searches/empty",
            "truncated": "searches/truncated",
        },
    ),
    Plot(
        title="Retriever's failures",
        unit="number a step",
        lines={"tried again": "searches/retries"},
    ),
    Plot(
        title="Left out of updates",
        unit="number a step",
        lines={
            "rollouts dropped": "rollouts_dropped",
            "of these, out of length": "rollouts_overlong",
            "groups not finite": "groups_non_finite",
        },
    ),
    Plot(
        title="Length",
        unit="tokens a trajectory",
        lines={
            "written by the policy": "len/policy",
            "retrieved": "len/observation",
            "all, prompt included": "len/total",
        },
    ),
    Plot(
        title="Thought",
        unit="characters a trajectory",
        lines={"besides queries and answers": "len/think"},
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
        unit="std in a group",
        lines={"std": "reward/group_std"},
    ),
    Plot(
        title="Groups without signal",
        unit="rewards all equal, share",
        lines={"groups": "groups_without_signal"},
    ),
    Plot(
        title="Tags deleted from passages",
        unit="a trajectory",
        lines={"tags": "tags_deleted"},
    ),
    Plot(title="Loss", unit="", lines={"loss": "loss"}, is_by_stage=True),
    Plot(title="KL from the reference", unit="nats a token", lines={"kl": "kl"}),
    Plot(title="Entropy", unit="nats a token", lines={"entropy": "entropy"}),
    Plot(
        title="Gradient norm",
        unit="before clipping",
        lines={"norm": "grad_norm"},
        is_by_stage=True,
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
        unit="tokens a second",
        lines={"all": "tokens_per_s/total", "policy": "tokens_per_s/policy"},
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
# These are in charts that are made from others, in a table, or are no metrics.
NOT_PLOTTED_ALONE = (
    *("time/rollout", "step", "stage"),
    *(f"alarm/{name}" for name in SIGNALS),
)
