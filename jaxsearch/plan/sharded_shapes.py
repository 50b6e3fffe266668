"""Shapes in place of arrays, which know where they lie."""

import math
from typing import Any

import jax


def placed(shapes: Any, places: Any) -> Any:
    """Shapes that know where they lie."""
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        shapes,
        places,
    )


def device_bytes(tree: Any) -> int:
    """Bytes that a device holds of arrays, or of shapes that know where they lie."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )
