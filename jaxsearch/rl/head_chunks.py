"""The positions that the language-model head is applied to, in chunks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxsearch.rl.head_sharding import Axes, HeadSharding

# Limits on the logits held at once, in positions and in elements (128 MB). Chunks must
# be short if V is large, because the last chunk of a row is mostly padding.
_CHUNK_POSITIONS = 256
_CHUNK_LOGITS = 2**25


def chunk_width(num_rows: int, row_len: int, vocab_size: int) -> int:
    """Positions per row in one chunk, on one device."""
    positions = min(_CHUNK_POSITIONS, _CHUNK_LOGITS // vocab_size)
    return min(row_len, max(1, positions // num_rows))


def max_chunks(row_len: int, vocab_size: int) -> int:
    """Number of chunks of a single row if all of its tokens count."""
    return -(-row_len // chunk_width(1, row_len, vocab_size))


def reduce_over(collective: Callable[..., Any], x: Any, axes: Axes) -> Any:
    """`collective(x, axes)`, or x where there is no mesh axis to reduce over."""
    return x if axes is None else collective(x, axes)


class Chunks(NamedTuple):
    """A permutation of each row that moves the positions that count to the front.

    Positions move only within a row, and by gathers instead of scatters, so that rows
    sharded over devices stay where they are.

    Attributes:
      order: original position of each column of a row, [M T].
      inverse: column that each position moved to, [M T].
      width: columns per chunk.
      num_chunks: number of chunks with a position that counts; an array, so that rows
        of padding cost nothing.
    """

    order: Array
    inverse: Array
    width: int
    num_chunks: Array

    @classmethod
    def of(
        cls,
        is_target: Bool[Array, "M T"],
        vocab_size: int,
        head_sharding: HeadSharding | None,
    ) -> "Chunks":
        """The chunks of one device's rows.

        Args:
          is_target: True at positions that count.
          vocab_size: number of ids in the device's shard of the head.
        """
        M, T = is_target.shape
        width = chunk_width(M, T, vocab_size)
        order = jnp.argsort(~is_target, axis=1, stable=True)
        num_chunks = -(-jnp.max(jnp.sum(is_target, axis=1)) // width)
        if head_sharding is not None:
            # The same number on every device: a sum over the vocabulary needs every
            # device, and all of them would wait for the slowest one anyway.
            num_chunks = reduce_over(jax.lax.pmax, num_chunks, head_sharding.row_axes)
        return cls(
            order=order,
            inverse=jnp.argsort(order, axis=1),
            width=width,
            num_chunks=num_chunks,
        )

    def pack(self, x: Array, is_target: Bool[Array, "M T"]) -> Array:
        """Values that count, at the front of each row; zeros up to whole chunks."""
        trailing = (1,) * (x.ndim - 2)
        order = self.order.reshape(*self.order.shape, *trailing)
        is_kept = jnp.take_along_axis(is_target, self.order, axis=1)
        is_kept = is_kept.reshape(order.shape)
        packed = jnp.where(
            is_kept, jnp.take_along_axis(x, order, axis=1), jnp.zeros((), x.dtype)
        )
        return jnp.pad(packed, ((0, 0), (0, self._padding), *((0, 0),) * len(trailing)))

    def unpack(self, packed: Array) -> Array:
        """Packed values at their original positions."""
        inverse = self.inverse.reshape(*self.inverse.shape, *(1,) * (packed.ndim - 2))
        return jnp.take_along_axis(packed, inverse, axis=1)

    def read(self, packed: Array, i: Array) -> Array:
        """The columns of chunk i."""
        return jax.lax.dynamic_slice_in_dim(packed, i * self.width, self.width, axis=1)

    def write(self, packed: Array, chunk: Array, i: Array) -> Array:
        """`packed` with the columns of chunk i replaced."""
        return jax.lax.dynamic_update_slice_in_dim(
            packed, chunk, i * self.width, axis=1
        )

    @property
    def _padding(self) -> int:
        return -self.order.shape[1] % self.width
