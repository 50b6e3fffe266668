"""Advantage estimators: from rewards to one advantage per rollout."""

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

    `std` is the sample standard deviation (divides by G - 1), as in ReSearch's code;
    `group_relative_population` uses the population standard deviation. A group whose
    rewards are all equal has advantage exactly 0, because it carries no signal; in
    ReSearch's code it is rounding noise divided by eps. In that code a group of one
    also gets its raw reward; here that is an error.

    Answers that are not kept do not count: mean and std are computed over the others,
    and if only one answer is left it carries no signal.

    Source: Shao et al. 2024, DeepSeekMath, section 4.1 (arXiv:2402.03300), which
    names neither the kind of std nor eps; ReSearch (arXiv:2503.19470) uses eps 1e-6.

    Args:
      rewards: one scalar per answer, in reward units (1.0 = exact match).
      is_kept: answers that count; the others get 0. None: all answers count.
      eps: added to std, in reward units.
      ddof: subtracted from G in the variance; 1 for the sample variance.

    Raises:
      ValueError: if groups have one answer, or a reward that counts is not finite; the
        error names the group. Inside a compiled function, where values cannot be
        checked, all answers of that group get NaN.
    """
    counted, is_finite = _checked(rewards, is_kept)
    scaled = _centred(rewards, counted) / (rewards.std(ddof=ddof, **counted) + eps)
    return _where_signal(scaled, rewards, counted, is_finite)


def group_relative_population(
    rewards: Float[Array, "Q G"],
    is_kept: Bool[Array, "Q G"] | None = None,
) -> Float[Array, "Q G"]:
    """`group_relative` with the population standard deviation (divides by G).

    Its values are sqrt(G / (G - 1)) times those of `group_relative`. DeepSeekMath's
    text does not say which of the two it uses.
    """
    return group_relative(rewards, is_kept, ddof=0)


def group_centred(
    rewards: Float[Array, "Q G"],
    is_kept: Bool[Array, "Q G"] | None = None,
) -> Float[Array, "Q G"]:
    """r - mean of its group: Dr. GRPO, and the baseline of REINFORCE++-baseline.

    Without the division by std, very easy and very hard questions, whose rewards are
    nearly equal, are not amplified. Groups without signal, answers that do not count
    and errors are as in `group_relative`.

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
    """RLOO: r - mean of the other answers; G / (G - 1) times `group_centred`.

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
    """The reward itself, as in REINFORCE++.

    Use it with `whiten_advantages`, which makes the mean over all tokens of the step
    the baseline. A group of equal rewards does carry signal here, compared with the
    other groups. Errors are as in `group_relative`.

    Source: REINFORCE++ (arXiv:2501.03262).
    """
    counted, _ = _checked(rewards, is_kept, min_group_size=1)
    return jnp.where(counted["where"], rewards, 0.0)


def _checked(
    rewards: Float[Array, "Q G"],
    is_kept: Bool[Array, "Q G"] | None,
    *,
    min_group_size: int = 2,
) -> tuple[dict[str, Any], Bool[Array, "Q 1"]]:
    """Arguments of a reduction over the answers that count, and finite groups."""
    if rewards.shape[1] < min_group_size:
        raise ValueError(
            f"a group needs at least {min_group_size} answers, got {rewards.shape[1]}"
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
    """Advantages; exactly 0 in groups of equal rewards and where not counted."""
    # The maximum of an empty set is -inf and its minimum is inf.
    largest = rewards.max(initial=-jnp.inf, **counted)
    has_signal = largest > rewards.min(initial=jnp.inf, **counted)
    is_used = counted["where"] & (has_signal | ~is_finite)
    return jnp.where(is_used, advantages, 0.0)
