"""What a step learns from its rollouts: advantage, rows, microbatches, update."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsearch.config import RLStage, SupervisedStage
from jaxsearch.mesh import put_batch, row_multiple
from jaxsearch.metrics import Max, Mean
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rl.advantages import overlong_penalty
from jaxsearch.rl.losses import kl_k1
from jaxsearch.rl.returns import (
    discounted_returns,
    importance,
    run_blocking,
    whitened,
)
from jaxsearch.rl.update import TrainState, Updater, joined
from jaxsearch.run.build import Run
from jaxsearch.run.train_rows import NO_ROW, train_rows, with_observations
from jaxsearch.trajectory import TrainBatch, TrainRow, Trajectory, microbatches

Metrics = dict[str, Any]


class _Part(NamedTuple):
    """What one of a step's updates is made of."""

    batches: list[TrainBatch]
    divisor: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PolicyUpdate:
    """The updates of a step of an RL stage; in every process the same ones."""

    run: Run
    stage: RLStage
    updater: Updater

    def __call__(
        self,
        state: TrainState,
        trajectories: Sequence[Trajectory],
        outcomes: Sequence[Outcome],
    ) -> tuple[TrainState, Metrics, list[float | None]]:
        """The new state, what is worth watching, and each rollout's advantage.

        Trajectories come group by group. With several updates a step each gets as
        many of them, in order; what is computed over rollouts (normalisation) is
        computed over those of the whole step, and the policy they are compared with
        (importance, KL in the reward) is the one that the step began with.
        """
        stage = self.stage
        advantages = advantages_of(trajectories, outcomes, stage)
        rows = self._rows(trajectories, advantages)
        parts = self._parts(rows)
        drawn = None
        if stage.max_importance is not None:
            cut = [
                row and row._replace(old_logprobs=t.sampling_logprobs)
                for row, t in zip(rows, trajectories, strict=True)
            ]
            drawn = [b.old_logprobs for part in self._parts(cut) for b in part.batches]
        parts, watched = self._shaped(state, parts, drawn)
        found = []
        for part in parts:
            state, metrics = self.updater.update(state, part.batches, part.divisor)
            found.append(metrics)
        return state, _over_updates(found) | watched, advantages

    def _rows(
        self, trajectories: Sequence[Trajectory], advantages: Sequence[float | None]
    ) -> list[TrainRow | None]:
        """A row for each rollout, None where it has no advantage."""
        rows = train_rows(trajectories, advantages)
        if not self.stage.has_masked_observations:
            rows = [
                row and with_observations(row, t.prompt_len)
                for row, t in zip(rows, trajectories, strict=True)
            ]
        return rows

    def _parts(self, rows: Sequence[TrainRow | None]) -> list[_Part]:
        size = len(rows) // self.stage.minibatches_per_step
        return [
            self._part([row for row in rows[start : start + size] if row is not None])
            for start in range(0, len(rows), size)
        ]

    def _part(self, rows: Sequence[TrainRow]) -> _Part:
        num_tokens = np.asarray([row.is_policy.sum() for row in rows], np.int64)
        weights, divisor = self.stage.aggregation(
            num_tokens, max_len=self.run.config.rollout.max_len
        )
        weighted = [
            row._replace(weight=weight)
            for row, weight in zip(rows, weights.tolist(), strict=True)
        ]
        return _Part(batches_of(self.run, weighted, self.stage), divisor)

    def _shaped(
        self,
        state: TrainState,
        parts: Sequence[_Part],
        drawn: Sequence[jax.Array] | None,
    ) -> tuple[list[_Part], Metrics]:
        """What a stage asks for beyond one advantage a rollout, token by token.

        In this order: the policy's own log-probs, KL in the reward, normalisation,
        importance. `drawn` are the log-probs that tokens were drawn with, after a
        top-k or top-p cut, for importance.
        """
        stage, updater = self.stage, self.updater
        batches = [batch for part in parts for batch in part.batches]
        masks = [batch.is_policy for batch in batches]
        sampled = [batch.old_logprobs for batch in batches]
        watched: Metrics = {}
        if stage.max_importance is not None or not stage.has_masked_observations:
            batches = [
                batch._replace(
                    old_logprobs=run_blocking(updater.logprobs_of, state.params, batch)
                )
                for batch in batches
            ]
        if stage.reward_kl_weight:
            charged = [
                run_blocking(
                    _charged,
                    batch,
                    run_blocking(updater.logprobs_of, state.reference, batch),
                    stage.reward_kl_weight,
                )
                for batch in batches
            ]
            batches = [batch for batch, _ in charged]
            watched |= functools.reduce(joined, [metrics for _, metrics in charged])
        if stage.whiten_advantages:
            advantages = whitened([batch.advantages for batch in batches], masks)
            batches = [
                batch._replace(advantages=normalised)
                for batch, normalised in zip(batches, advantages, strict=True)
            ]
        if drawn is not None:
            weighted = [
                run_blocking(_weighted, *arrays, stage.max_importance)
                for arrays in zip(batches, sampled, drawn, strict=True)
            ]
            batches = [batch for batch, _ in weighted]
            watched |= functools.reduce(joined, [metrics for _, metrics in weighted])
        remaining = iter(batches)
        return [
            part._replace(batches=[next(remaining) for _ in part.batches])
            for part in parts
        ], watched


def apply_overlong_penalty(
    trajectories: Sequence[Trajectory],
    outcomes: Sequence[Outcome],
    *,
    max_len: int,
    buffer: int,
) -> list[Outcome]:
    """The outcomes with what length costs as a part of the reward, "overlong"."""
    lengths = jnp.asarray([len(t.tokens) for t in trajectories])
    costs = overlong_penalty(lengths, max_len=max_len, buffer=buffer)
    return [
        dataclasses.replace(
            outcome,
            reward=outcome.reward + cost,
            parts={**outcome.parts, "overlong": cost},
        )
        for outcome, cost in zip(outcomes, np.asarray(costs).tolist(), strict=True)
    ]


def advantages_of(
    trajectories: Sequence[Trajectory], outcomes: Sequence[Outcome], stage: RLStage
) -> list[float | None]:
    """The advantage of each rollout among those of its group that an update may use.

    None for the others: their rewards say nothing about the policy.
    """
    by_group = (-1, stage.group_size)
    rewards = jnp.asarray([o.reward for o in outcomes], jnp.float32).reshape(by_group)
    is_kept = jnp.asarray([t.is_kept for t in trajectories]).reshape(by_group)
    advantages = stage.advantage(rewards, is_kept)
    return [
        advantage if t.is_kept else None
        for t, advantage in zip(
            trajectories, np.asarray(advantages).reshape(-1).tolist(), strict=True
        )
    ]


def batches_of(
    run: Run, rows: Sequence[TrainRow], stage: SupervisedStage | RLStage
) -> list[TrainBatch]:
    """Rows in microbatches, on the devices of the run."""
    batches = microbatches(
        # Where no rollout is kept, the update of no token is skipped and counted.
        rows or [NO_ROW],
        row_lens=run.row_lens,
        max_tokens=stage.max_tokens,
        row_multiple=row_multiple(run.mesh),
        is_packed=run.config.model.pack_sequences,
    )
    return [put_batch(run.mesh, batch) for batch in batches]


@jax.jit
def _charged(
    batch: TrainBatch, ref_logprobs: jax.Array, weight: ArrayLike
) -> tuple[TrainBatch, Metrics]:
    """Advantages less what the KL from a token on costs."""
    is_policy = batch.is_policy
    kl = kl_k1(batch.old_logprobs, ref_logprobs, is_policy)
    costs = discounted_returns(kl, is_policy, batch.segments)
    count = jnp.sum(is_policy, dtype=jnp.float32)
    advantages = batch.advantages - weight * costs
    return batch._replace(advantages=advantages), {
        "reward_kl": Mean(jnp.sum(kl), count)
    }


@jax.jit
def _weighted(
    batch: TrainBatch, sampled: jax.Array, drawn: jax.Array, max_weight: ArrayLike
) -> tuple[TrainBatch, Metrics]:
    """Advantages times importance, which is the policy loss times it.

    The sampler's log-probs tell of drift before a cut (`sampled`), and what a token
    counts after it (`drawn`).
    """
    is_policy = batch.is_policy
    weights = importance(batch.old_logprobs, drawn, is_policy, max_weight=max_weight)
    drift = jnp.where(is_policy, jnp.abs(batch.old_logprobs - sampled), 0.0)
    count = jnp.sum(is_policy, dtype=jnp.float32)
    is_cut = is_policy & (weights >= max_weight)
    return batch._replace(advantages=batch.advantages * weights), {
        "importance/mean": Mean(jnp.sum(weights, where=is_policy), count),
        "importance/cut": Mean(jnp.sum(is_cut, dtype=jnp.float32), count),
        "logprob_drift/mean": Mean(jnp.sum(drift), count),
        "logprob_drift/max": Max(jnp.max(drift)),
    }


def _over_updates(found: Sequence[Metrics]) -> Metrics:
    """Metrics of a step's updates as one; drift is that before the first of them."""
    if len(found) == 1:
        return found[0]
    watched = [{k: v for k, v in m.items() if isinstance(v, Mean | Max)} for m in found]
    norms = [metrics["grad_norm"] for metrics in found]
    return {
        **functools.reduce(joined, watched),
        **{k: v for k, v in found[0].items() if k.startswith("logprob_drift/")},
        "grad_norm": Mean(sum(norms), float(len(norms))),
        "skipped": found[-1]["skipped"],
    }
