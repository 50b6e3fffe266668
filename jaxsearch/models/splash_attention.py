"""Attention over whole rows on TPUs, by JAX's splash attention (Pallas)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsearch.models.kernels import RowKernel, Target

# Block lengths that the kernel may use; rows are padded to a multiple of the last.
_BLOCK_LENS = (512, 384, 256, 128)


def splash(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T K H"],
    value: Float[Array, "B T K H"],
    window: int | None = None,
    segments: Int[Array, "B T"] | None = None,
    *,
    is_interpreted: bool = False,
) -> Float[Array, "B T N H"]:
    """JAX's splash attention; in (slow) interpret mode it runs on any platform."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernels,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as masks,
    )

    _, T, N, H = query.shape
    padding = -T % _BLOCK_LENS[-1]
    block_len = next(n for n in _BLOCK_LENS if (T + padding) % n == 0)
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

    # The kernel does not scale scores.
    query *= jnp.asarray(H**-0.5, query.dtype)
    ids = None
    if segments is not None:
        segments = jnp.pad(segments, ((0, 0), (0, padding)))
        ids = kernels.SegmentIds(q=segments, kv=segments)
    heads = (heads_first(x) for x in (query, key, value))
    out = jax.vmap(kernel)(*heads, ids)
    return out[:, :, :T].swapaxes(1, 2)


def _missing(target: Target) -> str:
    return "" if target.platform == "tpu" else "a TPU"


SPLASH = RowKernel(name="splash", attend=splash, missing=_missing)
