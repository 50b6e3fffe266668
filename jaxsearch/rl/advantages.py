"""From rewards to advantages, one a rollout. Free functions of arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsearch.rl.credit import requires


def group_relative(
    rewards: Float[Array, "Q G"],
    is_kept: Bool[Array, "Q G"] | None = None,
    *,
    eps: float = 1e-6,
    ddof: int = 1,
) -> Float[Array, "Q G"]:
    """GRPO: standardises each reward within its group, (r - mean) / (std + eps).

    `std` is the sample standard deviation (divides by G - 1), as ReSearch's code
    computes it; `group_relative_population` takes the other. A group whose rewards
    are all equal has advantage exactly 0: it carries no signal, where the source
    leaves rounding noise divided by eps. The source gives a group of one its raw
    reward; here that is an error.

    A group of which some are not kept is as if it had only the others: mean and std
    are theirs (G is their number), and a single one that is left carries no signal.

    Source: Shao et al. 2024, DeepSeekMath, section 4.1 (arXiv:2402.03300), which
    names neither the kind of std nor eps; ReSearch (arXiv:2503.19470) uses eps 1e-6.

    Args:
      rewards: one scalar per answer, in reward units (1.0 = exact match).
      is_kept: answers that count, the rest get 0; None: all.
      eps: added to std, in reward units.

    Errors: ValueError for groups of one, and for a reward that counts and is not
    finite (the group is named); inside a compiled function, where values cannot be
    looked at, such a group gets NaN throughout.
    """
    counted, is_finite = _checked(rewards, is_kept)
    scaled = _centred(rewards, counted) / (rewards.std(ddof=ddof, **counted) + eps)
    return _where_signal(scaled, rewards, counted, is_finite)


def group_relative_population(
    rewards: Float[Array, "Q G"],
    is_kept: Bool[Array, "Q G"] | None = None,
) -> Float[Array, "Q G"]:
    """`group_relative` by the population's standard deviation (divides by G).

    sqrt(G / (G - 1)) times as large. DeepSeekMath's text names neither.
    """
    return group_relative(rewards, is_kept, ddof=0)


def group_centred(
    rewards: Float[Array, "Q G"],
    is_kept: Bool[Array, "Q G"] | None = None,
) -> Float[Array, "Q G"]:
    """r - mean of its group: Dr. GRPO's, and the baseline of REINFORCE++-baseline.

    An easy or a hard question, where rewards are nearly equal, is not blown up. Groups
    without signal, answers that do not count and errors are as in `group_relative`.

    Source: Dr. GRPO (arXiv:2503.20783), section 3.2; R1-Searcher's code
    ("reinforce_baseline"), which then normalises over all tokens
    (`returns.whitened`).
    """
    counted, is_finite = _checked(rewards, is_kept)
    return _where_signal(_centred(rewards, counted), rewards, counted, is_finite)


def leave_one_out(
    rewards: Float[Array, "Q G"],
    is_kept: Bool[Array, "Q G"] | None = None,
) -> Float[Array, "Q G"]:
    """RLOO: r - mean of the others of its group, G / (G - 1) times `group_centred`.

    Groups without signal, answers that do not count and errors are as in
    `group_relative`.

    Source: Ahmadian et al. 2024 (arXiv:2402.14740).
    """
    counted, is_finite = _checked(rewards, is_kept)
    num_kept = jnp.sum(counted["where"], axis=1, keepdims=True)
    scaled = _centred(rewards, counted) * num_kept / jnp.maximum(num_kept - 1, 1)
    return _where_signal(scaled, rewards, counted, is_finite)


@requires(min_group_size=1)
def plain_reward(
    rewards: Float[Array, "Q G"],
    is_kept: Bool[Array, "Q G"] | None = None,
) -> Float[Array, "Q G"]:
    """The reward itself: REINFORCE++, whose baseline is the mean over all tokens.

    It wants `whiten_advantages`. A group of equal rewards does carry signal
    here: it is measured against the other groups. Errors as in `group_relative`.

    Source: REINFORCE++ (arXiv:2501.03262).
    """
    counted, _ = _checked(rewards, is_kept, smallest_group=1)
    return jnp.where(counted["where"], rewards, 0.0)


def _checked(
    rewards: Float[Array, "Q G"],
    is_kept: Bool[Array, "Q G"] | None,
    *,
    smallest_group: int = 2,
) -> tuple[dict[str, Any], Bool[Array, "Q 1"]]:
    """How to reduce a group to those that count; which groups are finite."""
    if rewards.shape[1] < smallest_group:
        raise ValueError(
            f"a group needs at least {smallest_group} answers, got {rewards.shape[1]}"
        )
    if is_kept is None:
        is_kept = jnp.ones(rewards.shape, bool)
    is_finite = (jnp.isfinite(rewards) | ~is_kept).all(axis=1, keepdims=True)
    if not isinstance(rewards, jax.core.Tracer) and not is_finite.all():
        group = int(np.argmin(is_finite[:, 0]))
        raise ValueError(
            f"rewards must be finite, got {rewards[group].tolist()} in group {group}"
        )
    return dict(axis=1, keepdims=True, where=is_kept), is_finite


def _centred(
    rewards: Float[Array, "Q G"], counted: dict[str, Any]
) -> Float[Array, "Q G"]:
    return rewards - rewards.mean(**counted)


def _where_signal(
    advantages: Float[Array, "Q G"],
    rewards: Float[Array, "Q G"],
    counted: dict[str, Any],
    is_finite: Bool[Array, "Q 1"],
) -> Float[Array, "Q G"]:
    """Exactly 0 for groups of equal rewards, and for answers that do not count."""
    # Of no reward the largest is -inf and the smallest inf, of one they are equal.
    largest = rewards.max(initial=-jnp.inf, **counted)
    has_signal = largest > rewards.min(initial=jnp.inf, **counted)
    is_used = counted["where"] & (has_signal | ~is_finite)
    return jnp.where(is_used, advantages, 0.0)
