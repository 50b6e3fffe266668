"""Reward terms that depend on more than a rollout's text.

KL in the reward is subtracted per token, after advantages are computed: see
`rl.shaping`.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsearch.rewards.judge import Judged


def apply_overlong_penalty(judged: Judged, *, max_len: int, buffer: int) -> Judged:
    """Adds the overlong penalty to the outcomes, as the reward term "overlong".

    Args:
      max_len: number of tokens of the policy at which the penalty is 1.
      buffer: tokens before max_len over which the penalty grows; 0 for no penalty.
    """
    if not buffer:
        return judged
    lengths = jnp.asarray([int(t.is_policy.sum()) for t in judged.trajectories])
    costs = overlong_penalty(lengths, max_len=max_len, buffer=buffer)
    outcomes = [
        dataclasses.replace(
            outcome,
            reward=outcome.reward + cost,
            terms={**outcome.terms, "overlong": cost},
        )
        for outcome, cost in zip(
            judged.outcomes, np.asarray(costs).tolist(), strict=True
        )
    ]
    return judged._replace(outcomes=outcomes)


def overlong_penalty(
    lengths: Int[Array, "*rollouts"], *, max_len: int, buffer: int
) -> Float[Array, "*rollouts"]:
    """0 up to max_len - buffer tokens, then decreases to -1 at max_len.

    Source: DAPO (arXiv:2503.14476), equation 13 ("soft overlong punishment"). As in
    DAPO, lengths are of what the policy wrote; here that excludes the prompt and what
    was retrieved, whose length is not the policy's doing.
    """
    return -jnp.clip((lengths - (max_len - buffer)) / buffer, 0.0, 1.0)
