"""The ids of a vocabulary that have a token, as ranges known to compiled programs."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

IdRanges = tuple[tuple[int, int], ...]
"""(start, stop) pairs of ids that have a token."""


def has_token(ids: Int[Array, " V"], id_ranges: IdRanges) -> Bool[Array, " V"]:
    """Whether each id has a token: comparisons, which XLA fuses with their use."""
    found = jnp.zeros(ids.shape, bool)
    for start, stop in id_ranges:
        found |= (ids >= start) & (ids < stop)
    return found
