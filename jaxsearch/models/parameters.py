"""The parameters of a decoder: shapes, initial values and logical axis names.

The modules only declare parameters; the computation is in `block.py` and
`transformer.py`. Weights are stored as [out, in], as in Hugging Face files, which is
also the faster layout for the small batches of decoding.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsearch.models.architecture import Architecture


class Decoder(nnx.Module):
    """Embedding, L stacked blocks, final norm, head."""

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
        V, D = architecture.vocab_size, architecture.width

        @nnx.split_rngs(splits=architecture.num_layers)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def stack(rngs: nnx.Rngs) -> Block:
            return Block(architecture, rngs)

        # Without a tied head the embedding can start large. If tokens have a small
        # share of the residual stream, the model learns late to copy them (quickstart,
        # reward after 200 steps: 0.6 tied, 1.0 untied).
        embedding_std = D**-0.5 if architecture.has_tied_head else 0.5
        self.embedding = normal(rngs, (V, D), ("vocab", "embed"), embedding_std)
        self.blocks = stack(rngs)
        self.norm = Norm(architecture, D, "embed")
        if not architecture.has_tied_head:
            self.head = normal(rngs, (V, D), ("vocab", "embed"), D**-0.5)


class Block(nnx.Module):
    """Attention and MLP, with norms before them and optionally after them."""

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
        D = architecture.width
        self.attention_norm = Norm(architecture, D, "embed")
        self.projections = Projections(architecture, rngs)
        self.mlp_norm = Norm(architecture, D, "embed")
        self.mlp = GatedMLP(architecture, rngs)
        if architecture.has_post_norms:
            self.post_attention_norm = Norm(architecture, D, "embed")
            self.post_mlp_norm = Norm(architecture, D, "embed")


class Projections(nnx.Module):
    """Query, key, value and output projections of a block."""

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
        D, H = architecture.width, architecture.head_width
        N, K = architecture.num_heads, architecture.num_kv_heads
        std = D**-0.5
        out_std = (N * H) ** -0.5 / (2 * architecture.num_layers)
        self.query = normal(rngs, (N, H, D), ("heads", "head", "embed"), std)
        self.key = normal(rngs, (K, H, D), ("kv_heads", "head", "embed"), std)
        self.value = normal(rngs, (K, H, D), ("kv_heads", "head", "embed"), std)
        self.out = normal(rngs, (D, N, H), ("embed", "heads", "head"), out_std)
        if architecture.has_qkv_bias:
            self.query_bias = constant(0.0, (N, H), ("heads", "head"))
            self.key_bias = constant(0.0, (K, H), ("kv_heads", "head"))
            self.value_bias = constant(0.0, (K, H), ("kv_heads", "head"))
        if architecture.has_qk_norm:
            self.query_norm = Norm(architecture, H, "head")
            self.key_norm = Norm(architecture, H, "head")


class GatedMLP(nnx.Module):
    """Gate, up and down projections."""

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
        D, F = architecture.width, architecture.mlp_width
        down_std = F**-0.5 / (2 * architecture.num_layers)
        self.gate = normal(rngs, (F, D), ("mlp", "embed"), D**-0.5)
        self.up = normal(rngs, (F, D), ("mlp", "embed"), D**-0.5)
        self.down = normal(rngs, (D, F), ("embed", "mlp"), down_std)


class Norm(nnx.Module):
    """The scale of an RMSNorm, which starts as the identity.

    Args:
      axis: logical name of the normalised axis, of size `width`.
    """

    def __init__(self, architecture: Architecture, width: int, axis: str):
        start = 1.0 - architecture.norm_scale_offset
        self.scale = constant(start, (width,), (axis,))


def normal(
    rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], std: float
) -> nnx.Param:
    """A float32 parameter drawn from N(0, std^2), with its logical axes."""
    return nnx.Param(
        std * jax.random.normal(rngs.params(), shape, jnp.float32), logical_axes=axes
    )


def constant(value: float, shape: tuple[int, ...], axes: tuple[str, ...]) -> nnx.Param:
    """A float32 parameter initialised to one value everywhere."""
    return nnx.Param(jnp.full(shape, value, jnp.float32), logical_axes=axes)
