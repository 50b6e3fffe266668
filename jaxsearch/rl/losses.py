"""Losses per token, as free functions of arrays. Sums and divisions come later."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_MAX_LOG_RATIO = 20.0  # exp of more may overflow, and its gradient then be NaN


def clipped_policy_loss(
    logprobs: Float[Array, "M T"],
    old_logprobs: Float[Array, "M T"],
    advantages: Float[Array, "M T"],
    is_policy: Bool[Array, "M T"],
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[Float[Array, "M T"], Bool[Array, "M T"]]:
    """-min(r A, clip(r, 1 - low, 1 + high) A) with r = p / p_old, and where it clips.

    0 where not is_policy. The log-ratio is held within -20..20, as in verl (ReSearch's
    code has no bound).

    Source: Schulman et al. 2017 (arXiv:1707.06347), equation 7; one bound each side
    as in DAPO (arXiv:2503.14476); equal bounds are the paper's.
    """
    # Replace before exp: an inf in a branch that `where` drops still sends NaN
    # back through its gradient.
    log_ratio = jnp.where(is_policy, logprobs - old_logprobs, 0.0)
    ratio = jnp.exp(jnp.clip(log_ratio, -_MAX_LOG_RATIO, _MAX_LOG_RATIO))
    clipped = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    losses = -jnp.minimum(ratio * advantages, clipped * advantages)
    is_clipped = is_policy & (clipped * advantages < ratio * advantages)
    return jnp.where(is_policy, losses, 0.0), is_clipped


def kl_k3(
    logprobs: Float[Array, "M T"],
    ref_logprobs: Float[Array, "M T"],
    is_policy: Bool[Array, "M T"],
) -> Float[Array, "M T"]:
    """exp(d) - d - 1 with d = ref - policy: an unbiased, non-negative estimate of KL.

    0 where not is_policy; clamped to 10 a token, as ReSearch's code does (a token
    beyond it has no gradient).

    Source: Schulman 2020, "Approximating KL divergence", estimator k3.
    """
    difference = jnp.where(is_policy, ref_logprobs - logprobs, 0.0)
    # More is clamped below anyway; without this bound it could overflow first.
    difference = jnp.minimum(difference, _MAX_LOG_RATIO)
    return jnp.clip(jnp.exp(difference) - difference - 1.0, -10.0, 10.0)


def imitation(
    logprobs: Float[Array, "M T"], is_policy: Bool[Array, "M T"]
) -> Float[Array, "M T"]:
    """-log p of the demonstrated token; 0 where not is_policy."""
    return jnp.where(is_policy, -logprobs, 0.0)
