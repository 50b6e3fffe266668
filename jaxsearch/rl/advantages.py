"""From rewards to advantages. Free functions of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


def group_relative(
    rewards: Float[Array, "Q G"],
    is_kept: Bool[Array, "Q G"] | None = None,
    *,
    eps: float = 1e-6,
) -> Float[Array, "Q G"]:
    """Standardises each reward within its group: (r - mean) / (std + eps).

    `std` is the sample standard deviation (divides by G - 1), as ReSearch's code
    computes it. A group whose rewards are all equal has advantage exactly 0: it
    carries no signal, where the source leaves rounding noise divided by eps. The
    source gives a group of one its raw reward; here that is an error.

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
    if rewards.shape[1] < 2:
        raise ValueError(f"a group needs at least 2 answers, got {rewards.shape[1]}")
    if is_kept is None:
        is_kept = jnp.ones(rewards.shape, bool)
    is_finite = (jnp.isfinite(rewards) | ~is_kept).all(axis=1, keepdims=True)
    if not isinstance(rewards, jax.core.Tracer) and not is_finite.all():
        group = int(np.argmin(is_finite[:, 0]))
        raise ValueError(
            f"rewards must be finite, got {rewards[group].tolist()} in group {group}"
        )
    # Of no reward the largest is -inf and the smallest inf, of one they are equal.
    counted = dict(axis=1, keepdims=True, where=is_kept)
    largest = rewards.max(initial=-jnp.inf, **counted)
    has_signal = largest > rewards.min(initial=jnp.inf, **counted)
    centred = rewards - rewards.mean(**counted)
    scaled = centred / (rewards.std(ddof=1, **counted) + eps)
    return jnp.where(is_kept & (has_signal | ~is_finite), scaled, 0.0)
