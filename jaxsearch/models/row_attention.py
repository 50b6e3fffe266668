"""Attention over whole rows, as training has them: one function a platform.

All are causal, and take queries [B T N H], keys and values [B T K H], a window: each
token sees itself and the window - 1 before it (None: all before it), and segments: of
those it sees only the tokens with its own number (None: rows are one segment). Query
head n reads key/value head n // (N / K). Padding stands at the end of a row, where no
token that counts sees it; its own outputs are finite.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxsearch.models.attention import attend

# (query, key, value, window=None, segments=None) -> [B T N H]
RowAttention = Callable[..., Array]

# Longer rows are cut into so many parts, a part into blocks of so many queries.
_WHOLE_LEN = 256
_NUM_PARTS = 4
_BLOCK_LEN = 128
# Lengths that the TPU kernel may work in; rows are padded to a multiple of the last.
_SPLASH_LENS = (512, 384, 256, 128)


def plain(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T K H"],
    value: Float[Array, "B T K H"],
    window: int | None = None,
    segments: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T N H"]:
    """In XLA, for every platform and dtype.

    Of a long row the keys after a part are not read, nor those before the window, and
    scores exist for a block of queries at a time, in the backward pass too, where
    they are computed again: no [T T] is ever kept.
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
    part_len = -(-T // (_NUM_PARTS * _BLOCK_LEN)) * _BLOCK_LEN
    parts = [
        _part(query[:, start : start + part_len], key, value, start, window, segments)
        for start in range(0, T, part_len)
    ]
    return jnp.concatenate(parts, axis=1)[:, :T]


def _part(
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B K H T"],
    value: Float[Array, "B K T H"],
    start: int,
    window: int | None,
    segments: Int[Array, "B T"] | None,
) -> Float[Array, "B Q N H"]:
    """Queries from position `start` on, block by block.

    A loop, since XLA may run independent blocks side by side, each with its scores.
    """
    B, Q, N, H = query.shape
    read_len = start + Q if window is None else min(start + Q, window + _BLOCK_LEN - 1)

    @jax.checkpoint
    def block(key: Array, value: Array, query: Array, first: Array) -> Array:
        # Cut in here: cut outside, every part would keep a copy of its keys.
        low = jnp.maximum(0, first + _BLOCK_LEN - read_len)
        key = jax.lax.dynamic_slice_in_dim(key, low, read_len, axis=3)
        value = jax.lax.dynamic_slice_in_dim(value, low, read_len, axis=2)
        of_query = of_key = None
        if segments is not None:
            of_query = jax.lax.dynamic_slice_in_dim(segments, first, _BLOCK_LEN, axis=1)
            of_key = jax.lax.dynamic_slice_in_dim(segments, low, read_len, axis=1)
        return _attended(query, key, value, first, low, window, of_query, of_key)

    blocks = query.reshape(B, -1, _BLOCK_LEN, N, H).swapaxes(0, 1)
    broadcast_from_primary = start + _BLOCK_LEN * jnp.arange(len(blocks))
    out = jax.lax.map(
        lambda cut: block(key, value, *cut), (blocks, broadcast_from_primary)
    )
    return out.swapaxes(0, 1).reshape(B, Q, N, H)


def _attended(
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B K H S"],
    value: Float[Array, "B K S H"],
    query_start: ArrayLike,
    key_start: ArrayLike,
    window: int | None,
    of_query: Int[Array, "B Q"] | None,
    of_key: Int[Array, "B S"] | None,
) -> Float[Array, "B Q N H"]:
    """Queries and keys of consecutive positions, from these on, and their segments."""
    B, Q = query.shape[:2]
    queries = query_start + jnp.arange(Q)
    distance = queries[:, None] - (key_start + jnp.arange(key.shape[3]))[None]
    is_visible = distance >= 0
    if window is not None:
        is_visible &= distance < window
    is_visible = jnp.broadcast_to(is_visible[None], (B, *is_visible.shape))
    if of_query is not None:
        is_visible &= of_query[:, :, None] == of_key[:, None]
    return attend(query, key, value, is_visible)


def splash(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T K H"],
    value: Float[Array, "B T K H"],
    window: int | None = None,
    segments: Int[Array, "B T"] | None = None,
    *,
    is_interpreted: bool = False,
) -> Float[Array, "B T N H"]:
    """JAX's splash attention (Pallas), for TPUs; interpreted, slowly, for any."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernels,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as masks,
    )

    _, T, N, H = query.shape
    padding = -T % _SPLASH_LENS[-1]
    block_len = next(n for n in _SPLASH_LENS if (T + padding) % n == 0)
    sides = (None if window is None else window - 1, 0)
    mask = masks.LocalMask((T + padding, T + padding), sides, offset=0)
    sizes = kernels.BlockSizes(
        block_q=block_len,
        block_kv=block_len,
        block_q_dkv=block_len,
        block_kv_dkv=block_len,
        block_q_dq=block_len,
        block_kv_dq=block_len,
    )
    kernel = kernels.make_splash_mha(
        masks.MultiHeadMask([mask] * N),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        interpret=is_interpreted,
    )

    def heads_first(x: Array) -> Array:
        return jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, padding), (0, 0)))

    # The kernel does not scale.
    query *= jnp.asarray(H**-0.5, query.dtype)
    ids = None
    if segments is not None:
        segments = jnp.pad(segments, ((0, 0), (0, padding)))
        ids = kernels.SegmentIds(q=segments, kv=segments)
    heads = (heads_first(x) for x in (query, key, value))
    out = jax.vmap(kernel)(*heads, ids)
    return out[:, :, :T].swapaxes(1, 2)


def cudnn(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T K H"],
    value: Float[Array, "B T K H"],
    window: int | None = None,
    segments: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T N H"]:
    """cuDNN's fused attention, for NVIDIA GPUs in bfloat16 or float16.

    Errors: ValueError for segments, which JAX's call of it does not know.
    """
    if segments is not None:
        raise ValueError(
            "cuDNN's attention cannot keep the segments of packed rows apart: use "
            "plain attention, or rows that are not packed"
        )
    T = query.shape[1]
    # JAX refuses the gradient of rows of an odd length.
    padding = ((0, 0), (0, T % 2), (0, 0), (0, 0))
    out = jax.nn.dot_product_attention(
        *(jnp.pad(x, padding) for x in (query, key, value)),
        is_causal=True,
        local_window_size=None if window is None else (window - 1, 0),
        implementation="cudnn",
    )
    return out[:, :T]


@dataclasses.dataclass(frozen=True)
class PerDevice:
    """A kernel run by each device on its own rows and heads: XLA cannot cut a kernel.

    Attributes:
      sharding: of queries, keys and values; their second and last axes are whole.
    """

    kernel: RowAttention
    sharding: NamedSharding

    def __call__(
        self,
        query: Float[Array, "B T N H"],
        key: Float[Array, "B T K H"],
        value: Float[Array, "B T K H"],
        window: int | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> Float[Array, "B T N H"]:
        spec = self.sharding.spec

        def kernel(query: Array, key: Array, value: Array, segments: Array | None):
            return self.kernel(query, key, value, window, segments)

        # check_vma: kernels do not say which axes their outputs vary over.
        return jax.shard_map(
            kernel,
            mesh=self.sharding.mesh,
            in_specs=(spec, spec, spec, PartitionSpec(spec[0])),
            out_specs=spec,
            check_vma=False,
        )(query, key, value, segments)


def row_attention(
    name: str,
    *,
    platform: str,
    dtype: Any,
    head_width: int,
    sharding: NamedSharding,
    has_segments: bool = False,
) -> RowAttention:
    """The function of that name; "auto": the platform's own kernel if it can run.

    Args:
      platform: "cpu", "tpu", "cuda" or "rocm".
      sharding: of queries, keys and values.
      has_segments: it will be given some.

    Errors: ValueError if it cannot run there.
    """
    # Wider heads need a Hopper GPU or a later one.
    fits_cudnn = head_width % 8 == 0 and head_width <= 128
    is_half = jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
    needs = {
        "splash": (platform == "tpu", "a TPU"),
        "cudnn": (
            platform == "cuda" and is_half and fits_cudnn and not has_segments,
            "an NVIDIA GPU, bfloat16, heads of a multiple of 8 up to 128 wide, and "
            "rows that are not packed",
        ),
    }
    kernels = {"plain": plain, "splash": splash, "cudnn": cudnn}
    possible = [kernel for kernel, (is_met, _) in needs.items() if is_met] + ["plain"]
    if name == "auto":
        name = possible[0]
    if name not in kernels:
        raise ValueError(f"attention {name!r} is unknown; known: {['auto', *kernels]}")
    if name not in possible:
        raise ValueError(
            f"attention {name!r} needs {needs[name][1]}; got {platform}, "
            f"{jnp.dtype(dtype)} and heads {head_width} wide: use 'auto' or 'plain'"
        )
    is_spread = sharding.mesh.size > 1 and name != "plain"
    return PerDevice(kernels[name], sharding) if is_spread else kernels[name]
