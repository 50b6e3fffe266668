"""Keys and values kept between calls."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsearch.models.architecture import Architecture


class Cache(NamedTuple):
    """Keys [L B K H S] and values [L B K S H], positions innermost for keys.

    This is the layout in which both products of decoding read memory in order
    (on two CPU cores it halves the time of a step against [B S K H]).
    """

    keys: Array
    values: Array

    @property
    def max_len(self) -> int:
        return self.values.shape[3]


def empty_cache(
    architecture: Architecture, num_rows: int, max_len: int, dtype: DTypeLike
) -> Cache:
    """A cache of zeros for `num_rows` rows of up to `max_len` tokens."""
    rows = (architecture.num_layers, num_rows, architecture.num_kv_heads)
    return Cache(
        keys=jnp.zeros((*rows, architecture.head_width, max_len), dtype),
        values=jnp.zeros((*rows, max_len, architecture.head_width), dtype),
    )


def write(
    cache: Cache, layer: Array, rows: Array, positions: Array, key: Array, value: Array
) -> Cache:
    """Writes key and value [R T K H] of one layer at positions [R T] of rows [R].

    A position or row beyond the cache is dropped: that is how padding is skipped.
    """
    rows = rows[:, None]
    return Cache(
        keys=cache.keys.at[layer, rows, :, :, positions].set(key, mode="drop"),
        values=cache.values.at[layer, rows, :, positions].set(value, mode="drop"),
    )


def read(
    cache: Cache, layer: Array, rows: Array | None, read_len: int
) -> tuple[Array, Array]:
    """Keys [R K H S] and values [R K S H] of one layer, up to position `read_len`.

    `rows` None reads all rows in order, without a gather.
    """
    keys = jax.lax.dynamic_index_in_dim(cache.keys, layer, keepdims=False)
    values = jax.lax.dynamic_index_in_dim(cache.values, layer, keepdims=False)
    keys, values = keys[..., :read_len], values[..., :read_len, :]
    if rows is None:
        return keys, values
    return keys.at[rows].get(mode="clip"), values.at[rows].get(mode="clip")
