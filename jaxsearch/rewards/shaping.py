"""Rewards that depend on more than a rollout's text.

KL in the reward is charged token by token, after advantages: `rl.shaping`.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsearch.rewards.judge import Judged


def apply_overlong_penalty(judged: Judged, *, max_len: int, buffer: int) -> Judged:
    """Outcomes with the cost of length added, as the reward's part "overlong".

    Args:
      max_len: tokens of the longest row.
      buffer: tokens before max_len over which the penalty grows; 0: no penalty.
    """
    if not buffer:
        return judged
    lengths = jnp.asarray([len(t.tokens) for t in judged.trajectories])
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
    """0 up to max_len - buffer tokens, then down to -1 at max_len, in reward units.

    The penalty reaches rollouts before the budget cuts them off.

    Source: DAPO (arXiv:2503.14476), equation 13 ("soft overlong punishment"). Its
    lengths are of responses; here they are of whole rows, which is what the budget
    bounds.
    """
    return -jnp.clip((lengths - (max_len - buffer)) / buffer, 0.0, 1.0)
