"""From rewards to advantages. Free functions of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def group_relative(
    rewards: Float[Array, "Q G"], *, eps: float = 1e-6
) -> Float[Array, "Q G"]:
    """Standardises each reward within its group: (r - mean) / (std + eps).

    `std` is the sample standard deviation (divides by G - 1), as ReSearch's code
    computes it. A group whose rewards are all equal has advantage exactly 0: it
    carries no signal, where the source leaves rounding noise divided by eps. The
    source gives a group of one its raw reward; here that is an error.

    Source: Shao et al. 2024, DeepSeekMath, section 4.1 (arXiv:2402.03300), which
    names neither the kind of std nor eps; ReSearch (arXiv:2503.19470) uses eps 1e-6.

    Args:
      rewards: one scalar per answer, in reward units (1.0 = exact match).
      eps: added to std, in reward units.

    Errors: ValueError for groups of one, and for a reward that is not finite (the
    group is named); inside a compiled function, where values cannot be looked at,
    such a group gets NaN throughout.
    """
    if rewards.shape[1] < 2:
        raise ValueError(f"a group needs at least 2 answers, got {rewards.shape[1]}")
    is_finite = jnp.isfinite(rewards).all(axis=1, keepdims=True)
    if not isinstance(rewards, jax.core.Tracer) and not is_finite.all():
        group = int(np.argmin(is_finite[:, 0]))
        raise ValueError(
            f"rewards must be finite, got {rewards[group].tolist()} in group {group}"
        )
    is_equal = rewards.max(axis=1, keepdims=True) == rewards.min(axis=1, keepdims=True)
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    scaled = centred / (rewards.std(axis=1, ddof=1, keepdims=True) + eps)
    return jnp.where(is_equal & is_finite, 0.0, scaled)
