"""Shapes with shardings, to lower programs without arrays."""

import math
from typing import Any

import jax


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """The shapes with these shardings, leaf by leaf."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def device_bytes(tree: Any) -> int:
    """Bytes per device of arrays or of shapes with shardings."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )
