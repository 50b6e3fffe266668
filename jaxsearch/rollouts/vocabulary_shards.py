"""Sums over a vocabulary that devices share."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array


@dataclasses.dataclass(frozen=True)
class VocabularyShards:
    """Equal, consecutive parts of the vocabulary, one per device of a mesh axis.

    Attributes:
      axis: name of the axis, inside `shard_map`; None if one device has the whole
        vocabulary.
      number: number of parts.
    """

    axis: str | None = None
    number: int = 1

    @property
    def index(self) -> Array | int:
        """The part of this device."""
        return 0 if self.axis is None else jax.lax.axis_index(self.axis)

    def sum(self, x: Array) -> Array:
        return x if self.axis is None else jax.lax.psum(x, self.axis)

    def min(self, x: Array) -> Array:
        return x if self.axis is None else jax.lax.pmin(x, self.axis)

    def stacked(self, x: Array) -> Array:
        """The values of all parts along a new last axis."""
        if self.axis is None:
            return x[..., None]
        return jnp.moveaxis(jax.lax.all_gather(x, self.axis), 0, -1)
