"""Quantities per token that shape advantages: returns, whitening, importance.

Tokens that do not count are excluded: their reward is 0, returns are carried past them,
and no mean includes them.
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
    """The sum of a token's reward and the later rewards of its rollout.

    Each later token that counts discounts by gamma; 0 where not loss_mask.

    Source: REINFORCE++ (arXiv:2501.03262). verl carries the sum past observations, as
    here. ReSearch's code restarts it before each observation, so that tokens before the
    last search get none of the reward; that is considered a defect and not reproduced.
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
    min_variance: float = 1e-8,
    added_variance: float = 0.0,
) -> list[Float[Array, "_ _"]]:
    """Values with mean 0 and variance 1 over the tokens of all microbatches.

    0 where not loss_mask. Sums are over all devices and processes. The defaults are
    those of R1-Searcher's code; verl has ddof 1 and adds 1e-8 to the variance. In both
    cases equal values become 0, up to the rounding of their mean.

    Source: REINFORCE++ (arXiv:2501.03262).

    Args:
      ddof: subtracted from the number of tokens in the variance.
      min_variance: lower bound of the variance.
      added_variance: value added to the variance.
    """
    pairs = list(zip(values, loss_mask, strict=True))
    sums = [run_blocking(_total, x, mask) for x, mask in pairs]
    total, weight = (sum(one[i] for one in sums) for i in (0, 1))
    mean = total / jnp.maximum(weight, 1.0)
    squares = sum(run_blocking(_squares, x, mask, mean) for x, mask in pairs)
    variance = squares / jnp.maximum(weight - ddof, 1.0)
    scale = jax.lax.rsqrt(jnp.maximum(variance, min_variance) + added_variance)
    return [_scaled(x, mask, mean, scale) for x, mask in pairs]


def run_blocking(program: Callable[..., Any], *arguments: Any) -> Any:
    """The program's results, after waiting for them.

    If two programs reduce over processes and do not depend on each other, processes may
    run them in different orders and then deadlock.
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
    sampling_logprobs: Float[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
    *,
    max_weight: ArrayLike,
) -> Float[Array, "M T"]:
    """Importance weights min(p / q, max_weight); 1 where not loss_mask.

    p is the policy as computed by the trainer. q is the distribution that the sampler
    drew from, which differs by rounding and by top-k or top-p truncation.

    Source: truncated importance sampling, Yao et al. 2025, "Your efficient RL framework
    secretly brings you off-policy RL training".
    """
    ratio = jnp.exp(jnp.where(loss_mask, logprobs - sampling_logprobs, 0.0))
    return jnp.minimum(ratio, max_weight)
