"""Losses per token, which `gradient` sums and `update` divides."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_MAX_LOG_RATIO = 20.0  # exp of larger values may overflow, with NaN in the gradient


def token_log_ratio(
    logprobs: Float[Array, "M T"],
    old_logprobs: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
    segments: Int[Array, "M T"],
) -> Float[Array, "M T"]:
    """log p / p_old of each token, as in PPO and GRPO; 0 where not loss_mask."""
    # Replaced before exp: an inf in a branch that `where` drops still gives NaN in the
    # gradient.
    return jnp.where(loss_mask, logprobs - old_logprobs, 0.0)


def sequence_log_ratio(
    logprobs: Float[Array, "M T"],
    old_logprobs: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
    segments: Int[Array, "M T"],
) -> Float[Array, "M T"]:
    """The mean of log p / p_old over the rollout's tokens, at each of its tokens.

    0 where not loss_mask. `segments` numbers the rollouts within a row.

    Source: Zheng et al. 2025, GSPO (arXiv:2507.18071), equation 7.
    """
    log_ratio = token_log_ratio(logprobs, old_logprobs, loss_mask, segments)
    num_segments = segments.shape[1] + 1

    def segment_mean(log_ratio, loss_mask, segments):
        total = jax.ops.segment_sum(log_ratio, segments, num_segments)
        weight = jax.ops.segment_sum(
            loss_mask.astype(total.dtype), segments, num_segments
        )
        return (total / jnp.maximum(weight, 1.0))[segments]

    mean = jax.vmap(segment_mean)(log_ratio, loss_mask, segments)
    return jnp.where(loss_mask, mean, 0.0)


def clipped_policy_loss(
    log_ratio: Float[Array, "M T"],
    advantages: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
    *,
    clip_low: float,
    clip_high: float,
    max_ratio: float | None = None,
) -> tuple[Float[Array, "M T"], Bool[Array, "M T"]]:
    """-min(r A, clip(r, 1 - low, 1 + high) A) with r = p / p_old, and where it clips.

    0 where not loss_mask. The log-ratio is clipped to -20..20, as in verl (ReSearch's
    code has no bound). `max_ratio` also bounds r for negative advantages, which the
    clip leaves unbounded, so that a token far off-policy cannot outweigh all others.

    Source: Schulman et al. 2017 (arXiv:1707.06347), equation 7; separate bounds as in
    DAPO (arXiv:2503.14476, "clip-higher": 0.2 and 0.28); the paper's bounds are equal.
    max_ratio: dual clip, Ye et al. 2019 (arXiv:1912.09729).
    """
    bounded = jnp.clip(log_ratio, -_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    ratio = jnp.exp(jnp.where(loss_mask, bounded, 0.0))
    clipped = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    if max_ratio is not None:
        ratio = jnp.minimum(ratio, max_ratio)
    losses = -jnp.minimum(ratio * advantages, clipped * advantages)
    is_clipped = loss_mask & (clipped * advantages < ratio * advantages)
    return jnp.where(loss_mask, losses, 0.0), is_clipped


def kl_k1(
    logprobs: Float[Array, "M T"],
    ref_logprobs: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
) -> Float[Array, "M T"]:
    """log p / p_ref: an unbiased estimate of KL, which can be negative.

    0 where not loss_mask. Use it in the reward (`reward_kl_weight`): as a loss, its
    expected gradient is 0.

    Source: Schulman 2020, "Approximating KL divergence", estimator k1.
    """
    return jnp.where(loss_mask, logprobs - ref_logprobs, 0.0)


def kl_k2(
    logprobs: Float[Array, "M T"],
    ref_logprobs: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
) -> Float[Array, "M T"]:
    """(log p / p_ref)^2 / 2: a biased estimate whose gradient is that of KL.

    0 where not loss_mask.

    Source: Schulman 2020, as above, estimator k2.
    """
    return 0.5 * jnp.square(kl_k1(logprobs, ref_logprobs, loss_mask))


def kl_k3(
    logprobs: Float[Array, "M T"],
    ref_logprobs: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
    *,
    bound: float = 10.0,
) -> Float[Array, "M T"]:
    """exp(d) - d - 1 with d = ref - policy: an unbiased, non-negative estimate of KL.

    0 where not loss_mask. Clipped to `bound` per token, as in ReSearch's code; a token
    beyond it has no gradient.

    Source: Schulman 2020, "Approximating KL divergence", estimator k3.
    """
    difference = -kl_k1(logprobs, ref_logprobs, loss_mask)
    # Larger values are clipped below anyway, but exp could overflow before that.
    difference = jnp.minimum(difference, _MAX_LOG_RATIO)
    return jnp.clip(jnp.exp(difference) - difference - 1.0, -bound, bound)


def kl_abs(
    logprobs: Float[Array, "M T"],
    ref_logprobs: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
) -> Float[Array, "M T"]:
    """|log p / p_ref|, an option of verl; 0 where not loss_mask."""
    return jnp.abs(kl_k1(logprobs, ref_logprobs, loss_mask))


def kl_k1_straight(
    logprobs: Float[Array, "M T"],
    ref_logprobs: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
) -> Float[Array, "M T"]:
    """The value of k1 with the gradient of k2.

    Source: verl, "k1+".
    """
    return _straight(kl_k1, logprobs, ref_logprobs, loss_mask)


def kl_k3_straight(
    logprobs: Float[Array, "M T"],
    ref_logprobs: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
) -> Float[Array, "M T"]:
    """The value of k3 with the gradient of k2.

    Source: verl, "k3+".
    """
    return _straight(kl_k3, logprobs, ref_logprobs, loss_mask)


def _straight(estimate, logprobs, ref_logprobs, loss_mask):
    value = jax.lax.stop_gradient(estimate(logprobs, ref_logprobs, loss_mask))
    slope = kl_k2(logprobs, ref_logprobs, loss_mask)
    return value + slope - jax.lax.stop_gradient(slope)


def imitation(
    logprobs: Float[Array, "M T"], loss_mask: Bool[Array, "M T"]
) -> Float[Array, "M T"]:
    """-log p of the demonstrated token; 0 where not loss_mask."""
    return jnp.where(loss_mask, -logprobs, 0.0)
