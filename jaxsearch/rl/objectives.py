"""Objectives: the losses that an update minimises, with their metrics."""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsearch.metrics import Max, Mean
from jaxsearch.rl.batching import TrainBatch
from jaxsearch.rl.losses import (
    clipped_policy_loss,
    imitation,
    kl_k3,
    token_log_ratio,
)


@runtime_checkable
class Objective(Protocol):
    """Computes a loss per token, 0 where not loss_mask, and metrics as sums."""

    @property
    def needs_reference(self) -> bool:
        """Whether the objective reads reference log-probs; if not, they are zeros."""
        ...

    def __call__(
        self,
        logprobs: Float[Array, "M T"],
        entropy: Float[Array, "M T"],
        ref_logprobs: Float[Array, "M T"],
        batch: TrainBatch,
    ) -> tuple[Float[Array, "M T"], dict[str, Mean | Max]]: ...


LogRatioFunction = Callable[[Array, Array, Array, Array], Array]
"""(logprobs, old_logprobs, loss_mask, segments) -> log p / p_old."""
KLFunction = Callable[[Array, Array, Array], Array]
"""(logprobs, ref_logprobs, loss_mask) -> KL per token."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicyObjective:
    """Clipped policy loss + KL to the reference - entropy bonus.

    Source: ReSearch (arXiv:2503.19470): KL (k3) in the loss, with weight 0.001. Its
    code also has an entropy bonus of 0.001, which the paper does not mention.
    """

    clip_low: float = 0.2
    """Lower bound 1 - clip_low of p / p_old, for negative advantages."""
    clip_high: float = 0.2
    """Upper bound 1 + clip_high of p / p_old, for positive advantages; 0.28 in DAPO."""
    max_ratio: float | None = None
    """Dual clip: upper bound of p / p_old for negative advantages; None: no bound."""
    log_ratio: LogRatioFunction = token_log_ratio
    """(logprobs, old_logprobs, loss_mask, segments) -> log p / p_old [M T];
    `rl.losses` has token_log_ratio and sequence_log_ratio (GSPO)."""
    kl: KLFunction = kl_k3
    """(logprobs, ref_logprobs, loss_mask) -> KL per token [M T]; `rl.losses` has
    kl_k3, kl_k2, kl_k1, kl_abs, kl_k1_straight and kl_k3_straight."""
    kl_weight: float = 0.001
    """Weight of the KL to the policy at the start of the stage; 0: no KL."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus."""

    def __post_init__(self):
        for name, value in (("log_ratio", self.log_ratio), ("kl", self.kl)):
            if not callable(value):
                raise ValueError(
                    f"{name} must be a function, as those of rl.losses, got "
                    f"{value!r:.80}"
                )
        if not (0 < self.clip_low < 1 and 0 < self.clip_high < math.inf):
            raise ValueError(
                "clip_low must be in (0, 1) and clip_high positive, got "
                f"{self.clip_low} and {self.clip_high}"
            )
        if self.max_ratio is not None and not self.max_ratio >= 1.0 + self.clip_high:
            raise ValueError(
                "max_ratio must not be below 1 + clip_high, got "
                f"{self.max_ratio} and {self.clip_high}"
            )
        weights = (self.kl_weight, self.entropy_weight)
        if not all(0 <= weight < math.inf for weight in weights):
            raise ValueError(
                "kl_weight and entropy_weight must be finite and not negative, got "
                f"{self.kl_weight} and {self.entropy_weight}"
            )

    @property
    def needs_reference(self) -> bool:
        return self.kl_weight > 0

    def __call__(self, logprobs, entropy, ref_logprobs, batch):
        loss_mask = batch.loss_mask
        losses, is_clipped = clipped_policy_loss(
            self.log_ratio(logprobs, batch.old_logprobs, loss_mask, batch.segments),
            batch.advantages,
            loss_mask,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            max_ratio=self.max_ratio,
        )
        drift = jnp.where(loss_mask, jnp.abs(logprobs - batch.old_logprobs), 0.0)
        weight = jnp.sum(loss_mask, dtype=jnp.float32)
        metrics = {
            "entropy": Mean(jnp.sum(entropy), weight),
            "clip_fraction": Mean(jnp.sum(is_clipped, dtype=jnp.float32), weight),
            "logprob_drift/mean": Mean(jnp.sum(drift), weight),
            "logprob_drift/max": Max(jnp.max(drift)),
        }
        losses -= self.entropy_weight * entropy
        if self.needs_reference:
            kl = self.kl(logprobs, ref_logprobs, loss_mask)
            losses += self.kl_weight * kl
            metrics["kl"] = Mean(jnp.sum(kl), weight)
        return losses, metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImitationObjective:
    """-log p of the demonstrations' tokens that count."""

    @property
    def needs_reference(self) -> bool:
        return False

    def __call__(self, logprobs, entropy, ref_logprobs, batch):
        weight = jnp.sum(batch.loss_mask, dtype=jnp.float32)
        metrics = {"entropy": Mean(jnp.sum(entropy), weight)}
        return imitation(logprobs, batch.loss_mask), metrics
