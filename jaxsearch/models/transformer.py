"""The decoder: one forward pass for training, prefill and decoding."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh
from jaxtyping import Array, Float, Int

from jaxsearch.models.activation_sharding import ActivationSharding
from jaxsearch.models.adapters import (
    ADAPTERS,
    adapter_axes,
    adapter_shapes,
    init_adapters,
    merged,
    scaled_adapters,
)
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.fused import joined, joined_axes, joined_block
from jaxsearch.models.layers import KEPT, GatedMLP, Projections, normal, stream_norm
from jaxsearch.models.lora import LoRAConfig, Maps
from jaxsearch.models.rotary import rotary_angles, rotary_frequencies
from jaxsearch.models.row_attention import RowAttention, plain

Params = dict[str, Any]  # nested dict of arrays
# nnx.GraphDef and nnx.State, spelled so that beartype can read it.
Graph = tuple[Any, Any]
# (number of the layer, query [R T N H], key and value [R T K H]) -> heads [R T N H]
LayerAttention = Callable[[int, Array, Array, Array], Array]

# What the backward pass finds of a layer: the results of products with weights, and by
# name that of attention, not its scores. Norms, rotary and SwiGLU are computed again:
# on two cores that takes less time than to write and read what they give.
_PRODUCTS = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(KEPT),
)


class Block(nnx.Module):
    """Attention and MLP, each behind a norm and added to the stream."""

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
        self.attention_norm = stream_norm(architecture)
        self.projections = Projections(architecture, rngs)
        self.mlp_norm = stream_norm(architecture)
        self.mlp = GatedMLP(architecture, rngs)


class Decoder(nnx.Module):
    """Embedding, L stacked blocks, final norm, head."""

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
        V, D = architecture.vocab_size, architecture.width

        @nnx.split_rngs(splits=architecture.num_layers)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def stack(rngs: nnx.Rngs) -> Block:
            return Block(architecture, rngs)

        # A head of its own leaves the embedding free to be loud: tokens that drown in
        # the stream are copied late (quickstart, 200 steps: 0.6 tied, 1.0 untied).
        embedding_std = D**-0.5 if architecture.has_tied_head else 0.5
        self.embedding = normal(rngs, (V, D), ("vocab", "embed"), embedding_std)
        self.blocks = stack(rngs)
        self.norm = stream_norm(architecture)
        if not architecture.has_tied_head:
            self.head = normal(rngs, (V, D), ("vocab", "embed"), D**-0.5)


def positions_in(segments: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """How many tokens of its own segment stand before each token."""
    index = jnp.broadcast_to(jnp.arange(segments.shape[1])[None], segments.shape)
    is_first = segments != jnp.pad(segments, ((0, 0), (1, 0)))[:, :-1]
    return index - jax.lax.cummax(jnp.where(is_first, index, 0), axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transformer:
    """A decoder as functions of its parameters (a nested dict of arrays).

    Attributes:
      dtype: of activations; parameters are cast to it where they are used.
      remat: recompute each block in the backward pass from its input
        alone; else the results of its products are kept.
      attention: over whole rows.
      is_packed: rows may hold several segments, which attention keeps apart.
      lora: low-rank updates of some weights. They stand under `adapters` among the
        parameters, and are all that is trained.
      spread: how whole rows are computed on a mesh; None on one device.
      rollout_mesh: one axis of devices that share a copy of the parameters in
        rollouts, each with its heads, its piece of the MLP and of the vocabulary;
        None: a device has a copy of its own.
    """

    architecture: Architecture
    dtype: Any = jnp.float32
    remat: bool = False
    attention: RowAttention = plain
    is_packed: bool = False
    lora: LoRAConfig = LoRAConfig()
    spread: ActivationSharding | None = None
    rollout_mesh: AbstractMesh | None = None

    def __post_init__(self):
        _ = self.adapted  # so that what does not fit is said here

    @functools.cached_property
    def adapted(self) -> Maps:
        """The maps that have a low-rank update."""
        return self.lora.maps(self.architecture.num_layers)

    @functools.cached_property
    def _abstract(self) -> Graph:
        return nnx.split(
            nnx.eval_shape(lambda: Decoder(self.architecture, nnx.Rngs(params=0)))
        )

    @property
    def shapes(self) -> Params:
        """Shape and dtype of every parameter."""
        weights = nnx.to_pure_dict(self._abstract[1])
        return weights | adapter_shapes(self.adapted, self.lora.rank, weights["blocks"])

    @property
    def logical_axes(self) -> dict[str, Any]:
        """For every parameter, the logical name of each of its axes."""

        def axes(path: tuple, variable: nnx.Variable) -> tuple[str, ...]:
            names = variable.get_metadata("logical_axes")
            is_stacked = path[0].key == "blocks"
            return ("layers", *names) if is_stacked else names

        weights = nnx.to_pure_dict(
            jax.tree.map_with_path(
                axes, self._abstract[1], is_leaf=lambda x: isinstance(x, nnx.Variable)
            )
        )
        return weights | adapter_axes(self.adapted, weights["blocks"])

    def init(self, key: Array) -> Params:
        """Random parameters: N(0, 1/fan_in), maps back to the stream shrunk by 2 L."""
        decoder = Decoder(self.architecture, nnx.Rngs(params=key))
        return nnx.to_pure_dict(nnx.state(decoder)) | self.init_adapters(key)

    def init_adapters(self, key: Array) -> Params:
        """Random adapters that change nothing yet, to go with weights; {} if none."""
        # Apart from the weights, whose keys are `key` folded with small numbers.
        own = jax.random.fold_in(key, 2**31)
        return init_adapters(self.adapted, self.shapes, own)

    def hidden(
        self, params: Params, tokens: Int[Array, "B T"], segments: Int[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Final hidden states of whole rows, positions counted from 0 in each segment.

        Tokens of one segment (1, 2, ...) stand together, and each sees itself and those
        before it. Segment 0 is padding at the end, whose states are 0 whatever stands
        there. Unless `is_packed`, a row holds one segment.
        """
        index = jnp.arange(tokens.shape[1])[None]
        positions = jnp.broadcast_to(index, tokens.shape)
        if self.is_packed:
            positions = positions_in(segments)
        angles = self._angles(positions)
        embedding = params["embedding"].astype(self.dtype)
        spread = self.spread
        x = embedding[tokens] if spread is None else spread.embedded(embedding, tokens)

        def layer(x, slices):
            def attention(query, key, value):
                apart = segments if self.is_packed else None
                heads = self.attention(query, key, value, segments=apart)
                return checkpoint_name(heads, KEPT), None

            x, kept = self._block(*self._whole(slices), x, angles, attention)
            return x if spread is None else spread.by_rows(x), kept

        policy = None if self.remat else _PRODUCTS
        layer = jax.checkpoint(layer, policy=policy)
        stacked = (params["blocks"], scaled_adapters(self.lora, params))
        if spread is not None:
            # Before they are gathered: half as much is moved, and of gradients kept.
            stacked = self._cast(stacked)
        x, _ = jax.lax.scan(layer, x, stacked)
        is_token = segments[..., None] > 0
        return jnp.where(is_token, self._final_norm(params, x), 0)

    def for_rollouts(self, params: Params) -> Params:
        """The same parameters as `hidden_with` reads them.

        Adapters are merged into their weights. Cast to `dtype` once (norms stay in
        float32, as they are computed), and joined weights for each layer in place of
        stacked arrays: a product reads a weight where it lies, where a slice of a
        stack is copied at every step.
        """

        def cast(path: tuple, leaf: Array) -> Array:
            dtype = leaf.dtype if path[-1].key == "scale" else self.dtype
            # Also where nothing changes: jit may hand such an array through, and an
            # update may donate it.
            return jnp.array(leaf, dtype, copy=True)

        params = jax.tree.map_with_path(cast, merged(self.lora, params))
        blocks = [
            joined(
                jax.tree.map(lambda x, i=i: x[i], params["blocks"]),
                self.architecture,
                self.tensor_parallel_size,
            )
            for i in range(self.architecture.num_layers)
        ]
        return {**params, "blocks": blocks}

    @property
    def tensor_parallel_size(self) -> int:
        """Devices that share a copy in rollouts."""
        return 1 if self.rollout_mesh is None else self.rollout_mesh.size

    @property
    def rollout_axes(self) -> dict[str, Any]:
        """The logical names of the axes of what `for_rollouts` makes."""
        axes = self.logical_axes
        whole = {name: axes[name] for name in axes if name not in ("blocks", ADAPTERS)}
        num_layers = self.architecture.num_layers
        return {**whole, "blocks": [joined_axes(self.architecture)] * num_layers}

    def hidden_with(
        self,
        params: Params,
        tokens: Int[Array, "R T"],
        positions: Int[Array, "R T"],
        attention: LayerAttention,
    ) -> Float[Array, "R T D"]:
        """Final hidden states under an attention that keeps what it needs.

        `params` are those of `for_rollouts`. Layers are called one after the other in
        Python, so `attention` may read and replace arrays of the caller's: the cache.
        """
        x = params["embedding"].astype(self.dtype)[tokens]
        angles = self._angles(positions)
        for number, weights in enumerate(params["blocks"]):
            here = functools.partial(attention, number)
            x = joined_block(
                self.architecture, weights, x, angles, here, self.tensor_parallel_size
            )
        return self._final_norm(params, x)

    def head(self, params: Params) -> Float[Array, "V D"]:
        """The matrix from hidden states to logits, in the dtype of activations."""
        return params[self.head_name].astype(self.dtype)

    @property
    def head_name(self) -> str:
        """Under which name the head stands among the parameters."""
        return "embedding" if self.architecture.has_tied_head else "head"

    def _angles(self, positions: Array) -> tuple[Array, Array]:
        return rotary_angles(positions, rotary_frequencies(self.architecture))

    def _whole(self, slices: tuple[Params, Params]) -> tuple[Params, Params]:
        """Weights and adapters of a layer, as its products read them."""
        if self.spread is None:
            return slices
        axes = jax.tree.map(
            lambda names: names[1:],  # a layer has no axis of layers
            (self.logical_axes["blocks"], self.logical_axes.get(ADAPTERS, {})),
            is_leaf=lambda x: isinstance(x, tuple) and isinstance(x[0], str),
        )
        return self.spread.whole(slices, axes)

    def _cast(self, weights: Any) -> Any:
        """In the dtype of activations; scales of norms stay in float32, in which they
        are computed."""

        def cast(path: tuple, leaf: Array) -> Array:
            return leaf if path[-1].key == "scale" else leaf.astype(self.dtype)

        return jax.tree.map_with_path(cast, weights)

    def _block(self, weights: Params, adapters: Params, x: Array, angles, attention):
        block = self._merged(self._block_graph, weights)
        of_heads, of_mlp = adapters.get("projections", {}), adapters.get("mlp", {})
        read = block.attention_norm(x)
        query, key, value = block.projections.split(read, *angles, of_heads)
        heads, kept = attention(query, key, value)
        x = x + block.projections.join(heads, of_heads)
        return x + block.mlp(block.mlp_norm(x), of_mlp), kept

    def _final_norm(self, params: Params, x: Array) -> Array:
        return self._merged(self._norm_graph, params["norm"])(x)

    @functools.cached_property
    def _block_graph(self) -> Graph:
        return nnx.split(
            nnx.eval_shape(lambda: Block(self.architecture, nnx.Rngs(params=0)))
        )

    @functools.cached_property
    def _norm_graph(self) -> Graph:
        return nnx.split(nnx.eval_shape(lambda: stream_norm(self.architecture)))

    @staticmethod
    def _merged(graph: Graph, params: Params) -> nnx.Module:
        graphdef, state = graph
        filled = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(params))
        return nnx.merge(graphdef, filled)
