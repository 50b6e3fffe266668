"""What a step learns from its rollouts: advantage, rows, microbatches, update."""

import dataclasses
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
from jaxsearch.rl.returns import discounted_returns, importance, whitened
from jaxsearch.rl.update import TrainState, Updater
from jaxsearch.rows import NO_ROW, train_rows, with_observations
from jaxsearch.run import Run
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
        many groups, in order; what is computed over rollouts (normalisation) is
        computed over those of the whole step, and the policy they are compared with
        (importance, KL in the reward) is the one that the step began with.
        """
        stage = self.stage
        max_len = self.run.config.rollout.max_len
        advantages = advantages_of(trajectories, outcomes, stage, max_len=max_len)
        rows = self._rows(trajectories, advantages)
        size = len(rows) // stage.updates_per_step
        parts = [
            self._part([row for row in rows[start : start + size] if row is not None])
            for start in range(0, len(rows), size)
        ]
        parts, watched = self._shaped(state, parts)
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
        if self.stage.max_importance is not None:
            # What was sampled from; the trainer's own log-probs follow in `_shaped`.
            rows = [
                row and row._replace(old_logprobs=t.sampling_logprobs)
                for row, t in zip(rows, trajectories, strict=True)
            ]
        if not self.stage.has_masked_observations:
            rows = [
                row and with_observations(row, t.prompt_len)
                for row, t in zip(rows, trajectories, strict=True)
            ]
        return rows

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
        self, state: TrainState, parts: Sequence[_Part]
    ) -> tuple[list[_Part], Metrics]:
        """What a stage asks for beyond one advantage a rollout, token by token.

        In this order: the policy's own log-probs, KL in the reward, normalisation,
        importance.
        """
        stage, updater = self.stage, self.updater
        batches = [batch for part in parts for batch in part.batches]
        masks = [batch.is_policy for batch in batches]
        sampled = [batch.old_logprobs for batch in batches]
        watched: Metrics = {}
        if stage.max_importance is not None or not stage.has_masked_observations:
            batches = [
                batch._replace(old_logprobs=updater.logprobs_of(state.params, batch))
                for batch in batches
            ]
        if stage.reward_kl_weight:
            kls = [
                _kl(batch, updater.logprobs_of(state.reference, batch))
                for batch in batches
            ]
            watched["reward_kl"] = _mean(kls, masks)
            batches = [
                batch._replace(advantages=_less(batch, kl, stage.reward_kl_weight))
                for batch, kl in zip(batches, kls, strict=True)
            ]
        if stage.has_whitened_advantages:
            advantages = whitened([batch.advantages for batch in batches], masks)
            batches = [
                batch._replace(advantages=normalised)
                for batch, normalised in zip(batches, advantages, strict=True)
            ]
        if stage.max_importance is not None:
            weighted = [
                _weighted(batch, old, stage.max_importance)
                for batch, old in zip(batches, sampled, strict=True)
            ]
            batches = [batch for batch, _ in weighted]
            watched |= {
                name: join([metrics[name] for _, metrics in weighted])
                for name, join in _IMPORTANCE.items()
            }
        remaining = iter(batches)
        return [
            part._replace(batches=[next(remaining) for _ in part.batches])
            for part in parts
        ], watched


def advantages_of(
    trajectories: Sequence[Trajectory],
    outcomes: Sequence[Outcome],
    stage: RLStage,
    *,
    max_len: int,
) -> list[float | None]:
    """The advantage of each rollout among those of its group that an update may use.

    None for the others: their rewards say nothing about the policy.
    """
    by_group = (-1, stage.group_size)
    rewards = jnp.asarray([o.reward for o in outcomes], jnp.float32).reshape(by_group)
    is_kept = jnp.asarray([t.is_kept for t in trajectories]).reshape(by_group)
    if stage.overlong_buffer:
        lengths = jnp.asarray([len(t.tokens) for t in trajectories]).reshape(by_group)
        rewards += overlong_penalty(
            lengths, max_len=max_len, buffer=stage.overlong_buffer
        )
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
        is_packed=run.config.model.has_packed_rows,
    )
    return [put_batch(run.mesh, batch) for batch in batches]


@jax.jit
def _kl(batch: TrainBatch, ref_logprobs: jax.Array) -> jax.Array:
    return kl_k1(batch.old_logprobs, ref_logprobs, batch.is_policy)


@jax.jit
def _less(batch: TrainBatch, kl: jax.Array, weight: ArrayLike) -> jax.Array:
    """Advantages less what the KL from a token on costs."""
    costs = discounted_returns(kl, batch.is_policy, batch.segments)
    return batch.advantages - weight * costs


@jax.jit
def _weighted(
    batch: TrainBatch, sampled: jax.Array, max_weight: ArrayLike
) -> tuple[TrainBatch, Metrics]:
    """Advantages times importance, which is the policy loss times it."""
    is_policy = batch.is_policy
    weights = importance(batch.old_logprobs, sampled, is_policy, max_weight=max_weight)
    drift = jnp.where(is_policy, jnp.abs(batch.old_logprobs - sampled), 0.0)
    count = jnp.sum(is_policy, dtype=jnp.float32)
    is_cut = is_policy & (weights >= max_weight)
    return batch._replace(advantages=batch.advantages * weights), {
        "importance/mean": Mean(jnp.sum(weights, where=is_policy), count),
        "importance/cut": Mean(jnp.sum(is_cut, dtype=jnp.float32), count),
        "logprob_drift/mean": Mean(jnp.sum(drift), count),
        "logprob_drift/max": Max(jnp.max(drift)),
    }


_IMPORTANCE = {
    "importance/mean": lambda parts: Mean.joined(*parts),
    "importance/cut": lambda parts: Mean.joined(*parts),
    # Of the sampler: in the updates themselves old log-probs are the trainer's.
    "logprob_drift/mean": lambda parts: Mean.joined(*parts),
    "logprob_drift/max": lambda parts: Max.joined(*parts),
}


def _mean(values: Sequence[jax.Array], masks: Sequence[jax.Array]) -> Mean:
    return Mean.joined(
        *(
            Mean(jnp.sum(x), jnp.sum(mask, dtype=jnp.float32))
            for x, mask in zip(values, masks, strict=True)
        )
    )


def _over_updates(found: Sequence[Metrics]) -> Metrics:
    """Metrics of a step's updates as one; drift is that before the first of them."""
    first, last = found[0], found[-1]
    if len(found) == 1:
        return first
    joined: Metrics = {}
    for name, metric in first.items():
        parts = [metrics[name] for metrics in found]
        if isinstance(metric, Mean) and not name.startswith("logprob_drift"):
            joined[name] = Mean.joined(*parts)
        else:
            joined[name] = metric
    joined["grad_norm"] = Mean(sum(m["grad_norm"] for m in found), float(len(found)))
    return joined | {"skipped": last["skipped"]}
