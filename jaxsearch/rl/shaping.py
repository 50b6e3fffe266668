"""From one advantage per rollout or turn to one per token.

This is where everything that is computed token by token before an update happens, in
a fixed order: the trainer's own log-probs, KL in the reward, whitening over the step,
importance weights.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsearch.metrics import Max, Mean
from jaxsearch.rl.batching import TrainBatch
from jaxsearch.rl.losses import kl_k1
from jaxsearch.rl.returns import (
    discounted_returns,
    importance,
    run_blocking,
    whitened,
)
from jaxsearch.rl.update import Metrics, TrainState, Updater, merge_metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenShaping:
    """Options for shaping the advantages of a step's tokens.

    Attributes:
      recomputes_old_logprobs: the trainer computes `old_logprobs` with the parameters
        that the step begins with, in place of those of the sampler.
      reward_kl_weight: of KL (k1) to the reference in the reward, token by token; 0:
        none.
      whiten_advantages: bring the advantages of all tokens that count in the step to
        mean 0 and variance 1.
      max_importance: truncated importance sampling: each token's advantage is
        multiplied by trainer / sampler probability, clipped at this value; needs
        recomputes_old_logprobs. None: no importance weights.
    """

    recomputes_old_logprobs: bool
    reward_kl_weight: float
    whiten_advantages: bool
    max_importance: float | None

    def __call__(
        self, state: TrainState, updater: Updater, batches: Sequence[TrainBatch]
    ) -> tuple[list[TrainBatch], Metrics]:
        """The step's batches with shaped advantages, and the metrics of shaping."""
        batches, metrics = list(batches), {}
        if self.recomputes_old_logprobs:
            batches = recompute_old_logprobs(state, updater, batches)
        if self.reward_kl_weight:
            batches, found = subtract_kl(state, updater, batches, self.reward_kl_weight)
            metrics |= found
        if self.whiten_advantages:
            batches = whiten(batches)
        if self.max_importance is not None:
            batches, found = weigh_by_importance(batches, self.max_importance)
            metrics |= found
        return batches, metrics


def recompute_old_logprobs(
    state: TrainState, updater: Updater, batches: Sequence[TrainBatch]
) -> list[TrainBatch]:
    """`old_logprobs` computed by the trainer, under the parameters of `state`."""
    return [
        batch._replace(
            old_logprobs=run_blocking(updater.logprobs_of, state.params, batch)
        )
        for batch in batches
    ]


def subtract_kl(
    state: TrainState,
    updater: Updater,
    batches: Sequence[TrainBatch],
    weight: float,
) -> tuple[list[TrainBatch], Metrics]:
    """Advantages minus `weight` times the KL of each token and those after it."""
    return _on_each(
        lambda batch: _subtract_kl(
            batch, run_blocking(updater.logprobs_of, state.reference, batch), weight
        ),
        batches,
    )


def whiten(batches: Sequence[TrainBatch]) -> list[TrainBatch]:
    """Advantages with mean 0 and variance 1 over the tokens of all batches."""
    advantages = whitened(
        [batch.advantages for batch in batches], [batch.loss_mask for batch in batches]
    )
    return [
        batch._replace(advantages=values)
        for batch, values in zip(batches, advantages, strict=True)
    ]


def weigh_by_importance(
    batches: Sequence[TrainBatch], max_weight: float
) -> tuple[list[TrainBatch], Metrics]:
    """Advantages times truncated importance weights (the loss is linear in them)."""
    return _on_each(lambda batch: _weigh_by_importance(batch, max_weight), batches)


def _on_each(program, batches):
    """A program's batches and merged metrics, computed one batch after the other."""
    found = [run_blocking(program, batch) for batch in batches]
    return (
        [batch for batch, _ in found],
        functools.reduce(merge_metrics, [metrics for _, metrics in found]),
    )


@jax.jit
def _subtract_kl(
    batch: TrainBatch, ref_logprobs: jax.Array, weight: ArrayLike
) -> tuple[TrainBatch, Metrics]:
    loss_mask = batch.loss_mask
    kl = kl_k1(batch.old_logprobs, ref_logprobs, loss_mask)
    costs = discounted_returns(kl, loss_mask, batch.segments)
    count = jnp.sum(loss_mask, dtype=jnp.float32)
    advantages = batch.advantages - weight * costs
    return batch._replace(advantages=advantages), {
        "reward_kl": Mean(jnp.sum(kl), count)
    }


@jax.jit
def _weigh_by_importance(
    batch: TrainBatch, max_weight: ArrayLike
) -> tuple[TrainBatch, Metrics]:
    loss_mask = batch.loss_mask
    weights = importance(
        batch.old_logprobs, batch.sampling_logprobs, loss_mask, max_weight=max_weight
    )
    # Drift compares the same distribution on both sides: before truncation.
    drift = jnp.abs(batch.old_logprobs - batch.behavior_logprobs)
    drift = jnp.where(loss_mask, drift, 0.0)
    count = jnp.sum(loss_mask, dtype=jnp.float32)
    is_clipped = loss_mask & (weights >= max_weight)
    return batch._replace(advantages=batch.advantages * weights), {
        "importance/mean": Mean(jnp.sum(weights, where=loss_mask), count),
        "importance/cut": Mean(jnp.sum(is_clipped, dtype=jnp.float32), count),
        "logprob_drift/mean": Mean(jnp.sum(drift), count),
        "logprob_drift/max": Max(jnp.max(drift)),
    }
