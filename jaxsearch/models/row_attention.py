"""Attention over whole rows in plain XLA, for every platform and dtype."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxsearch.models.attention import attend
from jaxsearch.models.kernels import RowKernel

# `RowKernel.attend`: (query, key, value, window=None, segments=None) -> [B T N H]
RowAttention = Callable[..., Array]

# Longer rows are computed in `_NUM_SPANS` spans of queries, in blocks of `_BLOCK_LEN`.
_WHOLE_LEN = 256
_NUM_SPANS = 4
_BLOCK_LEN = 128


def plain(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T K H"],
    value: Float[Array, "B T K H"],
    window: int | None = None,
    segments: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T N H"]:
    """Causal attention; see `RowKernel`.

    In long rows, a span of queries reads neither the keys after it nor those before its
    window. Scores are computed for one block of queries at a time, and again in the
    backward pass, so that no [T T] array is ever stored.
    """
    T = query.shape[1]
    key = jnp.einsum("BSKH->BKHS", key)
    value = jnp.einsum("BSKH->BKSH", value)
    if T <= _WHOLE_LEN:
        return _attended(query, key, value, 0, 0, window, segments, segments)
    padding = (0, -T % _BLOCK_LEN)
    query = jnp.pad(query, ((0, 0), padding, (0, 0), (0, 0)))
    key = jnp.pad(key, ((0, 0), (0, 0), (0, 0), padding))
    value = jnp.pad(value, ((0, 0), (0, 0), padding, (0, 0)))
    if segments is not None:
        segments = jnp.pad(segments, ((0, 0), padding))
    span_len = -(-T // (_NUM_SPANS * _BLOCK_LEN)) * _BLOCK_LEN
    spans = [
        _span(query[:, start : start + span_len], key, value, start, window, segments)
        for start in range(0, T, span_len)
    ]
    return jnp.concatenate(spans, axis=1)[:, :T]


def _span(
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B K H T"],
    value: Float[Array, "B K T H"],
    start: int,
    window: int | None,
    segments: Int[Array, "B T"] | None,
) -> Float[Array, "B Q N H"]:
    """Attention of the queries from position `start` on, block by block.

    The blocks run in a loop, because XLA may run independent blocks at the same time
    and hold the scores of all of them.
    """
    B, Q, N, H = query.shape
    read_len = start + Q if window is None else min(start + Q, window + _BLOCK_LEN - 1)

    @jax.checkpoint
    def block(key: Array, value: Array, query: Array, first: Array) -> Array:
        # Sliced inside the checkpoint; otherwise each span would store a copy of its
        # keys.
        low = jnp.maximum(0, first + _BLOCK_LEN - read_len)
        key = jax.lax.dynamic_slice_in_dim(key, low, read_len, axis=3)
        value = jax.lax.dynamic_slice_in_dim(value, low, read_len, axis=2)
        query_segments = key_segments = None
        if segments is not None:
            query_segments = jax.lax.dynamic_slice_in_dim(
                segments, first, _BLOCK_LEN, axis=1
            )
            key_segments = jax.lax.dynamic_slice_in_dim(segments, low, read_len, axis=1)
        return _attended(
            query, key, value, first, low, window, query_segments, key_segments
        )

    blocks = query.reshape(B, -1, _BLOCK_LEN, N, H).swapaxes(0, 1)
    starts = start + _BLOCK_LEN * jnp.arange(len(blocks))
    out = jax.lax.map(lambda one: block(key, value, *one), (blocks, starts))
    return out.swapaxes(0, 1).reshape(B, Q, N, H)


def _attended(
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B K H S"],
    value: Float[Array, "B K S H"],
    query_start: ArrayLike,
    key_start: ArrayLike,
    window: int | None,
    query_segments: Int[Array, "B Q"] | None,
    key_segments: Int[Array, "B S"] | None,
) -> Float[Array, "B Q N H"]:
    """Attention between two ranges of positions, given the start of each."""
    B, Q = query.shape[:2]
    queries = query_start + jnp.arange(Q)
    distance = queries[:, None] - (key_start + jnp.arange(key.shape[3]))[None]
    is_visible = distance >= 0
    if window is not None:
        is_visible &= distance < window
    is_visible = jnp.broadcast_to(is_visible[None], (B, *is_visible.shape))
    if query_segments is not None:
        is_visible &= query_segments[:, :, None] == key_segments[:, None]
    return attend(query, key, value, is_visible)


PLAIN = RowKernel(name="plain", attend=plain, is_xla=True)
