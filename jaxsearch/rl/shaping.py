"""Shapes advantages: from one per rollout or turn to one per token.

Everything that is computed per token before an update is here, in a fixed order: the
trainer's log-probs, KL in the reward, whitening over the step, importance weights.
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
      recomputes_old_logprobs: whether the trainer recomputes `old_logprobs` with the
        parameters at the start of the step, instead of using those of the sampler.
      reward_kl_weight: weight of the KL (k1) to the reference in the reward of each
        token; 0: no KL.
      whiten_advantages: whether to scale the advantages of the step's tokens that count
        to mean 0 and variance 1.
      max_importance: upper bound for truncated importance sampling, which multiplies
        each token's advantage by trainer / sampler probability; needs
        recomputes_old_logprobs. None: no importance weights.
    """

    recomputes_old_logprobs: bool
    reward_kl_weight: float
    whiten_advantages: bool
    max_importance: float | None

    def __call__(
        self, state: TrainState, updater: Updater, batches: Sequence[TrainBatch]
    ) -> tuple[list[TrainBatch], Metrics]:
        """The step's batches with shaped advantages, and metrics."""
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
    """Batches with `old_logprobs` recomputed under the parameters of `state`."""
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
    """Advantages minus `weight` times the KL of each token and all later ones."""
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
    """Runs a program on one batch at a time; returns the batches and merged metrics."""
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
    # Drift compares both sides before truncation.
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
