"""The decoder block, shared by training and decoding."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.rotary import rotate

# (query [B T N H], key [B T K H], value [B T K H]) -> heads [B T N H]
Attention = Callable[[Array, Array, Array], Array]


@runtime_checkable
class BlockWeights(Protocol):
    """The projections of one block, independent of how their weights are stored.

    `SeparateWeights` (training) has one array per projection, as checkpoints have;
    `FusedWeights` (decoding) has one array for all projections of the same input.
    Biases and low-rank updates are part of a projection.

    Attributes:
      params: parameters of the block. Norm scales have the same names in every layout.
    """

    params: dict[str, Any]

    def qkv(self, x: Array) -> tuple[Array, Array, Array]:
        """Queries [B T N H], keys and values [B T K H] of x [B T D]."""
        ...

    def out(self, heads: Array) -> Array:
        """Heads [B T N H] back to [B T D]."""
        ...

    def gate_up(self, x: Array) -> tuple[Array, Array]:
        """Both inputs of the gated MLP, each [B T F] or with F split into axes."""
        ...

    def down(self, hidden: Array) -> Array:
        """The gated product, in the layout of `gate_up`, back to [B T D]."""
        ...


def decoder_block(
    architecture: Architecture,
    weights: BlockWeights,
    x: Float[Array, "B T D"],
    angles: tuple[Array, Array],
    attention: Attention,
) -> Float[Array, "B T D"]:
    """Attention, then the MLP, each normalised and added to the residual stream.

    Args:
      angles: `rotary_angles` of the tokens' positions.
    """
    params, heads = weights.params, weights.params["projections"]

    def norm(x: Array, scope: dict[str, Any], name: str) -> Array:
        return model_norm(architecture, x, scope[name]["scale"])

    query, key, value = weights.qkv(norm(x, params, "attention_norm"))
    if architecture.has_qk_norm:
        query = norm(query, heads, "query_norm")
        key = norm(key, heads, "key_norm")
    if architecture.query_scale is not None:
        # Every attention kernel multiplies scores by H ** -0.5.
        factor = architecture.query_scale * architecture.head_width**0.5
        query = query * jnp.asarray(factor, query.dtype)
    mixed = attention(rotate(query, *angles), rotate(key, *angles), value)
    update = weights.out(mixed)
    if architecture.has_post_norms:
        update = norm(update, params, "post_attention_norm")
    x = x + update
    gate, up = weights.gate_up(norm(x, params, "mlp_norm"))
    update = weights.down(architecture.activation(gate) * up)
    if architecture.has_post_norms:
        update = norm(update, params, "post_mlp_norm")
    return x + update


def model_norm(
    architecture: Architecture,
    x: Float[Array, "*rows D"],
    scale: Float[Array, " D"],
) -> Float[Array, "*rows D"]:
    """`rms_norm` with the model's epsilon and scale offset."""
    if architecture.norm_scale_offset:
        scale = scale + architecture.norm_scale_offset
    return rms_norm(x, scale, architecture.norm_eps)


def rms_norm(
    x: Float[Array, "*rows D"], scale: Float[Array, " D"], eps: float
) -> Float[Array, "*rows D"]:
    """x / rms(x) * scale over the last axis, in float32."""
    wide = x.astype(jnp.float32)
    rms = jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + eps)
    scale = jnp.expand_dims(scale, tuple(range(x.ndim - 1)))
    return (wide * rms * scale).astype(x.dtype)
