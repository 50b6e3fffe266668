"""From one advantage a rollout to one a token: KL in the reward, normalisation.

Tokens that the policy did not sample take no part: their reward is 0, what comes after
them is carried past them, and no mean counts them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int


def discounted_returns(
    token_rewards: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
    segments: Int[Array, "M T"],
    *,
    gamma: float = 1.0,
) -> Float[Array, "M T"]:
    """The sum of a token's reward and of those after it in its rollout.

    Each policy token further on is discounted by gamma; 0 where not loss_mask.

    Source: REINFORCE++ (arXiv:2501.03262). verl carries the sum past observations as
    here; ReSearch's code starts anew before each, which cuts what was written before
    the last search off from the reward: left out as a defect.
    """

    def step(carry: tuple[Array, Array], column: Any) -> tuple[Any, Array]:
        after, segment_after = carry
        reward, is_counted, segment = column
        after = jnp.where(segment == segment_after, after, 0.0)
        here = jnp.where(is_counted, reward + gamma * after, after)
        return (here, segment), jnp.where(is_counted, here, 0.0)

    start = (jnp.zeros_like(token_rewards[:, 0]), segments[:, -1])
    columns = (token_rewards.T, loss_mask.T, segments.T)
    _, returns = jax.lax.scan(step, start, columns, reverse=True)
    return returns.T


def whitened(
    values: Sequence[Float[Array, "_ _"]],
    loss_mask: Sequence[Bool[Array, "_ _"]],
    *,
    ddof: int = 0,
    least_variance: float = 1e-8,
    added_variance: float = 0.0,
) -> list[Float[Array, "_ _"]]:
    """All policy tokens of all microbatches brought to mean 0 and variance 1.

    0 where not loss_mask. `ddof` is taken from their number in the variance. The
    defaults are R1-Searcher's code; verl's takes 1 and adds 1e-8 to the variance, so in
    both equal values become 0. Sums are taken over all devices and processes.

    Source: REINFORCE++ (arXiv:2501.03262).
    """
    pairs = list(zip(values, loss_mask, strict=True))
    parts = [run_blocking(_total, x, mask) for x, mask in pairs]
    total, weight = (sum(part[i] for part in parts) for i in (0, 1))
    mean = total / jnp.maximum(weight, 1.0)
    squares = sum(run_blocking(_squares, x, mask, mean) for x, mask in pairs)
    variance = squares / jnp.maximum(weight - ddof, 1.0)
    scale = jax.lax.rsqrt(jnp.maximum(variance, least_variance) + added_variance)
    return [_scaled(x, mask, mean, scale) for x, mask in pairs]


def run_blocking(program: Callable[..., Any], *arguments: Any) -> Any:
    """What the program returns, computed.

    Of programs that sum over processes and do not depend on each other, two may run at
    once, and in another order in another process: then each waits for the other.
    """
    return jax.block_until_ready(program(*arguments))


@jax.jit
def _total(x: Array, mask: Array) -> tuple[Array, Array]:
    return jnp.sum(x, where=mask), jnp.sum(mask, dtype=x.dtype)


@jax.jit
def _squares(x: Array, mask: Array, mean: Array) -> Array:
    return jnp.sum(jnp.square(x - mean), where=mask)


@jax.jit
def _scaled(x: Array, mask: Array, mean: Array, scale: Array) -> Array:
    return jnp.where(mask, (x - mean) * scale, 0.0)


def importance(
    logprobs: Float[Array, "M T"],
    sampled_logprobs: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
    *,
    max_weight: ArrayLike,
) -> Float[Array, "M T"]:
    """min(p / q, max_weight): what a token of q counts as one of p; 1 elsewhere.

    p is the policy as the trainer computes it, q what the sampler drew from: its
    arithmetic may differ, and its top-p or top-k cut does.

    Source: truncated importance sampling, Yao et al. 2025, "Your efficient RL framework
    secretly brings you off-policy RL training".
    """
    ratio = jnp.exp(jnp.where(loss_mask, logprobs - sampled_logprobs, 0.0))
    return jnp.minimum(ratio, max_weight)
