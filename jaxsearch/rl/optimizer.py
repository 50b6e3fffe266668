"""AdamW with warm-up, cosine decay and clipping by the gradient norm."""

import dataclasses
import math
from typing import Literal

import jax.numpy as jnp
import optax

from jaxsearch.rl.moments import scale_by_bfloat16_adam


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Options of AdamW. Steps are the updates of a stage."""

    learning_rate: float = 1e-6
    """Peak of the learning rate."""
    warmup_steps: int = 0
    """Updates in which the learning rate grows linearly from 0 to its peak."""
    final_share: float = 1.0
    """Learning rate at the last update as a share of the peak, after a cosine; 1 keeps
    it constant."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.999
    """Decay of the mean of squared gradients."""
    weight_decay: float = 0.01
    """Decoupled weight decay, multiplied by the learning rate."""
    max_grad_norm: float = 1.0
    """Gradients with a larger norm are scaled down to it."""
    moments: Literal["float32", "bfloat16"] = "float32"
    """dtype in which both means are stored."""

    def __post_init__(self):
        if not (0 < self.learning_rate < math.inf and self.max_grad_norm > 0):
            raise ValueError(
                "learning_rate and max_grad_norm must be positive, got "
                f"{self.learning_rate} and {self.max_grad_norm}"
            )
        if not 0 <= self.final_share <= 1:
            raise ValueError(f"final_share must be in 0..1, got {self.final_share}")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError(
                f"betas must be in [0, 1), got {self.beta1} and {self.beta2}"
            )
        if self.warmup_steps < 0 or not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                "warmup_steps and weight_decay must be finite and not negative, got "
                f"{self.warmup_steps} and {self.weight_decay}"
            )


def learning_rate(config: OptimizerConfig, num_updates: int) -> optax.Schedule:
    """Linear warm-up, then a cosine down to `final_share` of the peak.

    Steps are 0 .. num_updates - 1. With W = max(warmup_steps, 1), step 0 has
    peak / W (so that the first update is not 0), step W - 1 has the peak, and the last
    step and all later ones have `final_share` of it. In a stage that is no longer than
    its warm-up, the rate only rises.

    Raises:
      ValueError: if num_updates is less than 1.
    """
    if num_updates < 1:
        raise ValueError(f"num_updates must be at least 1, got {num_updates}")
    warm = max(config.warmup_steps, 1)
    fall = max(num_updates - warm, 1)

    def schedule(step):
        done = jnp.asarray(step, jnp.float32) + 1.0
        rise = jnp.minimum(done / warm, 1.0)
        progress = jnp.clip((done - warm) / fall, 0.0, 1.0)
        cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        share = config.final_share + (1.0 - config.final_share) * cosine
        return config.learning_rate * rise * share

    return schedule


def make_optimizer(
    config: OptimizerConfig, num_updates: int
) -> optax.GradientTransformation:
    """Clipping by global norm, then AdamW on a schedule over `num_updates` updates.

    Weight decay applies to every parameter, norms and biases included, as in ReSearch.
    """
    kinds = {"float32": optax.scale_by_adam, "bfloat16": scale_by_bfloat16_adam}
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        # The same transformations as in optax.adamw.
        optax.chain(
            kinds[config.moments](config.beta1, config.beta2),
            optax.add_decayed_weights(config.weight_decay),
            optax.scale_by_learning_rate(learning_rate(config, num_updates)),
        ),
    )
