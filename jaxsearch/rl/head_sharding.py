"""Sharding of the language-model head and of the hidden states it is applied to."""

import dataclasses
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

Axes = str | tuple[str, ...] | None  # axes of a mesh; None: not sharded


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadSharding:
    """How devices share hidden states and the head.

    Every device computes the positions of its rows. If XLA partitioned the loop over
    chunks, it would sum the gradient of the whole head over all devices after every
    chunk.

    Attributes:
      rows: sharding of hidden states and tokens [M T ...]; only their first axis is
        sharded.
      head: sharding of the stored head [V D]. Its width is gathered once per pass, and
        the sum of the devices' gradients is sharded again.
    """

    rows: NamedSharding
    head: NamedSharding

    def num_row_shards(self, rows: Array) -> int:
        """Number of shards of the first axis of `rows`."""
        return len(rows) // self.rows.shard_shape(rows.shape)[0]

    @property
    def row_axes(self) -> Axes:
        return self.rows.spec[0]

    @property
    def vocab_axis(self) -> Any:
        return self._head_axes[0]

    @property
    def whole(self) -> NamedSharding:
        """Sharding of the head during a pass: only its vocabulary is sharded."""
        return NamedSharding(self.head.mesh, PartitionSpec(self.vocab_axis, None))

    def sum_over_rows(self, head_grad: Float[Array, "V D"]) -> Float[Array, "V d"]:
        """Sums over the rows of all devices; each keeps its shard of the width."""
        width_axis = self._head_axes[1]
        if width_axis is not None:
            head_grad = jax.lax.psum_scatter(
                head_grad, width_axis, scatter_dimension=1, tiled=True
            )
        axes = (self.row_axes,) if isinstance(self.row_axes, str) else self.row_axes
        others = tuple(axis for axis in axes or () if axis != width_axis)
        return jax.lax.psum(head_grad, others) if others else head_grad

    @property
    def _head_axes(self) -> tuple[Any, Any]:
        vocab, width = (*self.head.spec, None, None)[:2]
        return vocab, width
