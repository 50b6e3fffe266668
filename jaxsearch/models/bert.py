"""Encoders of the BERT family: rows of tokens in, one vector per row out."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxsearch.models.bert_architecture import BertArchitecture
from jaxsearch.models.parameters import constant, normal

BertParams = dict[str, Any]  # nested dict of arrays
# [B T D] hidden states, [B] lengths -> [B D]
Pooling = Callable[[Array, Array], Array]
_STD = 0.02  # of random weights, as in BERT
# Score of masked positions; finite, so that empty rows have finite results.
_HIDDEN = -1e30


def mean_of_tokens(
    hidden: Float[Array, "B T D"], lengths: Int[Array, " B"]
) -> Float[Array, "B D"]:
    """The mean over a row's tokens; zero for an empty row."""
    is_token = jnp.arange(hidden.shape[1])[None] < lengths[:, None]
    total = jnp.where(is_token[..., None], hidden, 0).sum(axis=1)
    return total / jnp.maximum(lengths, 1)[:, None]


def first_token(
    hidden: Float[Array, "B T D"], lengths: Int[Array, " B"]
) -> Float[Array, "B D"]:
    """The state of [CLS], the first token of every row."""
    return hidden[:, 0]


POOLINGS: dict[str, Pooling] = {"mean": mean_of_tokens, "cls": first_token}


class LayerNorm(nnx.Module):
    """(x - mean) / std * scale + bias over the last axis, in float32."""

    def __init__(self, architecture: BertArchitecture):
        self.scale = constant(1.0, (architecture.width,), ("embed",))
        self.bias = constant(0.0, (architecture.width,), ("embed",))
        self.eps = architecture.norm_eps

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        out = centred * jax.lax.rsqrt(variance + self.eps)
        out = out * self.scale[...][None, None] + self.bias[...][None, None]
        return out.astype(x.dtype)


class Linear(nnx.Module):
    """x W^T + b with W [out, in], as in Hugging Face files."""

    def __init__(self, sizes: tuple[int, int], axes: tuple[str, str], rngs: nnx.Rngs):
        self.weight = normal(rngs, sizes, axes, _STD)
        self.bias = constant(0.0, sizes[:1], axes[:1])

    def __call__(self, x: Float[Array, "B T I"]) -> Float[Array, "B T O"]:
        weight, bias = self.weight[...], self.bias[...]
        x = jnp.einsum("BTI,OI->BTO", x, weight.astype(x.dtype))
        return x + bias.astype(x.dtype)[None, None]


class BertBlock(nnx.Module):
    """Attention and MLP, each added to the residual stream and followed by a norm.

    One matrix computes queries, keys and values: one product instead of three.
    """

    def __init__(self, architecture: BertArchitecture, rngs: nnx.Rngs):
        D, F = architecture.width, architecture.mlp_width
        self.num_heads = architecture.num_heads
        self.qkv = Linear((3 * D, D), ("heads", "embed"), rngs)
        self.out = Linear((D, D), ("embed", "heads"), rngs)
        self.attention_norm = LayerNorm(architecture)
        self.up = Linear((F, D), ("mlp", "embed"), rngs)
        self.down = Linear((D, F), ("embed", "mlp"), rngs)
        self.mlp_norm = LayerNorm(architecture)

    def __call__(
        self, x: Float[Array, "B T D"], is_token: Bool[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        heads = attend_both_ways(self.qkv(x), is_token, self.num_heads)
        x = self.attention_norm(x + self.out(heads))
        return self.mlp_norm(x + self.down(gelu(self.up(x))))


class BertNetwork(nnx.Module):
    """Embeddings and L blocks.

    The layers are not stacked. The encoder is never trained, and a scan would copy each
    layer out of the stack, which takes 1.4 times as long for one short text on two CPU
    cores.
    """

    def __init__(self, architecture: BertArchitecture, rngs: nnx.Rngs):
        D = architecture.width

        def table(size: int, axis: str) -> nnx.Param:
            return normal(rngs, (size, D), (axis, "embed"), _STD)

        self.words = table(architecture.vocab_size, "vocab")
        self.positions = table(architecture.max_positions, "positions")
        self.token_types = table(architecture.num_token_types, "token_types")
        self.norm = LayerNorm(architecture)
        self.blocks = nnx.List(
            [BertBlock(architecture, rngs) for _ in range(architecture.num_layers)]
        )

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        lengths: Int[Array, " B"],
        dtype: Any,
        first_lens: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B T D"]:
        T = tokens.shape[1]
        if first_lens is None:
            # A text that is not part of a pair has only the first token type.
            offsets = (self.positions[...][:T] + self.token_types[...][:1])[None]
        else:
            is_second = jnp.arange(T)[None] >= first_lens[:, None]
            types = self.token_types[...][is_second.astype(jnp.int32)]
            offsets = self.positions[...][None, :T] + types
        x = self.norm(self.words[...][tokens] + offsets).astype(dtype)
        is_token = jnp.arange(T)[None] < lengths[:, None]
        for block in self.blocks:
            x = block(x, is_token)
        return x


def gelu(x: Float[Array, "B T F"]) -> Float[Array, "B T F"]:
    """x * P(N(0, 1) < x), by erf, in float32."""
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * jnp.float32(0.5**0.5)))).astype(
        x.dtype
    )


def attend_both_ways(
    qkv: Float[Array, "B T E"], is_token: Bool[Array, "B T"], num_heads: int
) -> Float[Array, "B T D"]:
    """Bidirectional softmax attention within each row, in float32.

    Args:
      qkv: queries, keys and values stacked on one axis, each split into heads.
    """
    B, T, E = qkv.shape
    qkv = qkv.reshape(B, T, 3, num_heads, -1)
    query, value = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in (0, 2))
    query = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
    # The keys' token axis is last, and the outputs are divided by the softmax's sum
    # instead of the weights: on two CPU cores that takes two thirds of the time.
    key = qkv[:, :, 1].transpose(0, 2, 3, 1)
    scores = jnp.einsum(
        "BNTH,BNHS->BNTS", query, key, preferred_element_type=jnp.float32
    )
    scores = jnp.where(is_token[:, None, None], scores, jnp.float32(_HIDDEN))
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    heads = jnp.einsum(
        "BNTS,BNSH->BNTH",
        weights.astype(value.dtype),
        value,
        preferred_element_type=jnp.float32,
    )
    heads = heads / weights.sum(axis=-1, keepdims=True)
    return heads.astype(qkv.dtype).transpose(0, 2, 1, 3).reshape(B, T, E // 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bert:
    """An encoder as functions of its parameters (a nested dict of arrays).

    Attributes:
      dtype: dtype of activations; parameters are cast to it where they are used.
      pooling: reduces hidden states to a vector; one of POOLINGS.
      is_normalised: whether vectors are scaled to length 1.
    """

    architecture: BertArchitecture
    pooling: Pooling
    is_normalised: bool
    dtype: Any = jnp.float32

    @functools.cached_property
    def _abstract(self) -> tuple[Any, Any]:
        return nnx.split(
            nnx.eval_shape(lambda: BertNetwork(self.architecture, nnx.Rngs(params=0)))
        )

    @property
    def shapes(self) -> BertParams:
        """Shape and dtype of every parameter."""
        return nnx.to_pure_dict(self._abstract[1])

    def init(self, key: Array) -> BertParams:
        """Random parameters: N(0, 0.02^2), norms 1, biases 0."""
        network = BertNetwork(self.architecture, nnx.Rngs(params=key))
        return nnx.to_pure_dict(nnx.state(network))

    def for_encoding(self, params: BertParams) -> BertParams:
        """The parameters, with the weights of the blocks cast to `dtype`.

        Embeddings and norms are not cast: they are used in float32.
        """

        def cast(path: tuple, leaf: Array) -> Array:
            names = [step.key for step in path]
            is_float32 = names[0] != "blocks" or names[-2].endswith("norm")
            return leaf if is_float32 else leaf.astype(self.dtype)

        return jax.tree.map_with_path(cast, params)

    def hidden(
        self,
        params: BertParams,
        tokens: Int[Array, "B T"],
        lengths: Int[Array, " B"],
        first_lens: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Final hidden states; at padding they are finite and must not be used.

        Row b has `lengths[b]` tokens, which attend to each other and not to padding.
        If it is a pair of texts, `first_lens[b]` of them belong to the first one.
        """
        graphdef, state = self._abstract
        filled = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(params))
        # Accelerators would otherwise round float32 products.
        with jax.default_matmul_precision("float32"):
            return nnx.merge(graphdef, filled)(tokens, lengths, self.dtype, first_lens)

    def embed(
        self, params: BertParams, tokens: Int[Array, "B T"], lengths: Int[Array, " B"]
    ) -> Float[Array, "B D"]:
        """One float32 vector per row; the vector of an empty row must not be used."""
        hidden = self.hidden(params, tokens, lengths).astype(jnp.float32)
        vectors = self.pooling(hidden, lengths)
        if not self.is_normalised:
            return vectors
        norms = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
        return vectors / jnp.maximum(norms, 1e-12)
