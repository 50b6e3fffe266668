"""Attention over whole rows on NVIDIA GPUs, by cuDNN."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsearch.models.kernels import RowKernel, Target


def cudnn(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T K H"],
    value: Float[Array, "B T K H"],
    window: int | None = None,
    segments: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T N H"]:
    """cuDNN's fused attention, in bfloat16 or float16.

    Raises:
      ValueError: if segments are given, which JAX cannot pass to cuDNN.
    """
    if segments is not None:
        raise ValueError(
            "cuDNN's attention does not support packed rows: use "
            "plain attention, or rows that are not packed"
        )
    T = query.shape[1]
    # JAX does not support the gradient of odd row lengths.
    padding = ((0, 0), (0, T % 2), (0, 0), (0, 0))
    out = jax.nn.dot_product_attention(
        *(jnp.pad(x, padding) for x in (query, key, value)),
        is_causal=True,
        local_window_size=None if window is None else (window - 1, 0),
        implementation="cudnn",
    )
    return out[:, :T]


def _missing(target: Target) -> str:
    # Wider heads need a Hopper or later GPU.
    fits = target.head_width % 8 == 0 and target.head_width <= 128
    is_half = jnp.dtype(target.dtype) in (jnp.bfloat16, jnp.float16)
    capability = target.compute_capability
    is_gpu = target.platform == "cuda" and (capability is None or capability >= 8.0)
    if is_gpu and is_half and fits and not target.has_segments:
        return ""
    return (
        "an NVIDIA GPU of compute capability 8.0 or more, bfloat16, heads of a "
        "multiple of 8 up to 128 wide, and rows that are not packed"
    )


CUDNN = RowKernel(name="cudnn", attend=cudnn, missing=_missing)
