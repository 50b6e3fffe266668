"""The parts of PPO that need a critic; no task of this package trains one.

Observations are skipped: the successor of a token is the next token that the policy
sampled. (ReSearch's and Search-R1's code bootstraps from values of retrieved tokens.)
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def gae(
    token_rewards: Float[Array, "M T"],
    values: Float[Array, "M T"],
    is_policy: Bool[Array, "M T"],
    *,
    gamma: float = 1.0,
    lam: float = 1.0,
) -> tuple[Float[Array, "M T"], Float[Array, "M T"]]:
    """Generalised advantages (not normalised) and returns, one rollout per row.

    0 where not is_policy. Source: Schulman et al. 2015 (arXiv:1506.02438), equation
    16.
    """

    def step(carry, column):
        advantage, next_value = carry
        reward, value, is_counted = column
        here = reward + gamma * next_value - value + gamma * lam * advantage
        advantage = jnp.where(is_counted, here, advantage)
        next_value = jnp.where(is_counted, value, next_value)
        return (advantage, next_value), jnp.where(is_counted, here, 0.0)

    zeros = jnp.zeros_like(values[:, 0])
    columns = (token_rewards.T, values.T, is_policy.T)
    _, advantages = jax.lax.scan(step, (zeros, zeros), columns, reverse=True)
    advantages = advantages.T
    return advantages, jnp.where(is_policy, advantages + values, 0.0)


def value_loss(
    values: Float[Array, "M T"],
    old_values: Float[Array, "M T"],
    returns: Float[Array, "M T"],
    is_policy: Bool[Array, "M T"],
    *,
    clip: float,
) -> tuple[Float[Array, "M T"], Bool[Array, "M T"]]:
    """Half the squared error, or that of the clipped value if larger, and where it is.

    0 where not is_policy. Source: PPO as implemented in verl and OpenRLHF; the paper
    (arXiv:1707.06347) does not clip values.
    """
    clipped = jnp.clip(values, old_values - clip, old_values + clip)
    plain, held = jnp.square(values - returns), jnp.square(clipped - returns)
    losses = 0.5 * jnp.maximum(plain, held)
    return jnp.where(is_policy, losses, 0.0), is_policy & (held > plain)


def adapted_kl_weight(
    weight: float, kl: float, *, target: float, horizon: float, num_rollouts: int
) -> float:
    """The weight of the KL in the reward of the next step, given the last step's `kl`.

    Source: Ziegler et al. 2019 (arXiv:1909.08593), section 2.2.
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return weight * (1.0 + error * num_rollouts / horizon)
