"""The decoder network, shared by training, prefill and decoding."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh
from jaxtyping import Array, Bool, Float, Int

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
from jaxsearch.models.block import decoder_block, model_norm
from jaxsearch.models.fused_weights import FusedWeights, fuse, fused_axes
from jaxsearch.models.kernels import DecodeKernel
from jaxsearch.models.lora import LoRAConfig, Maps
from jaxsearch.models.page_attention import PLAIN_PAGES
from jaxsearch.models.parameters import Decoder
from jaxsearch.models.rotary import layer_angles
from jaxsearch.models.row_attention import RowAttention, plain
from jaxsearch.models.separate_weights import SAVED_NAME, SeparateWeights

Params = dict[str, Any]  # nested dict of arrays
BLOCKS = "blocks"  # key of the stacked layers among the parameters
# (state of the layer, values for all layers, window, query [R T N H], key and value
# [R T K H]) -> (heads [R T N H], new state of the layer)
LayerAttention = Callable[
    [Any, Any, int | None, Array, Array, Array], tuple[Array, Any]
]

# The results of products with weights are saved for the backward pass, and those named
# SAVED_NAME in attention, but not the scores. Norms, rotary and SwiGLU are recomputed:
# on two CPU cores that takes less time than writing and reading their results.
_SAVE_PRODUCTS = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(SAVED_NAME),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transformer:
    """A decoder as functions of its parameters (a nested dict of arrays).

    Attributes:
      dtype: dtype of activations; parameters are cast to it where they are used.
      remat: recompute each block in the backward pass from its input alone, instead
        of keeping the results of its products.
      attention: attention over whole rows; see `RowKernel`.
      decode_kernel: attention for decoding, and the layout of its cache.
      is_packed: whether rows may hold several segments, which do not attend to each
        other.
      lora: low-rank updates of some weights. They are stored under `adapters` among the
        parameters, and only they are trained.
      activation_sharding: how whole rows are computed on a mesh; None on one device.
      rollout_mesh: mesh with one axis, of the devices that share a copy of the
        parameters in rollouts, split by heads, MLP width and vocabulary; None if each
        device has a whole copy.
    """

    architecture: Architecture
    dtype: Any = jnp.float32
    remat: bool = False
    attention: RowAttention = plain
    decode_kernel: DecodeKernel = PLAIN_PAGES
    is_packed: bool = False
    lora: LoRAConfig = LoRAConfig()
    activation_sharding: ActivationSharding | None = None
    rollout_mesh: AbstractMesh | None = None

    def __post_init__(self):
        _ = self.adapted  # raises here if `lora` does not fit the architecture

    @functools.cached_property
    def adapted(self) -> Maps:
        """The linear maps that have a low-rank update."""
        return self.lora.maps(self.architecture.num_layers)

    @functools.cached_property
    def _abstract_state(self) -> Any:
        """The nnx.State of the decoder, with shapes instead of arrays."""
        decoder = nnx.eval_shape(lambda: Decoder(self.architecture, nnx.Rngs(params=0)))
        return nnx.state(decoder)

    @property
    def shapes(self) -> Params:
        """Shape and dtype of every parameter."""
        weights = nnx.to_pure_dict(self._abstract_state)
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
                axes,
                self._abstract_state,
                is_leaf=lambda x: isinstance(x, nnx.Variable),
            )
        )
        return weights | adapter_axes(self.adapted, weights["blocks"])

    def init(self, key: Array) -> Params:
        """Random parameters: N(0, 1/fan_in); std / (2 L) for outputs to the stream."""
        decoder = Decoder(self.architecture, nnx.Rngs(params=key))
        return nnx.to_pure_dict(nnx.state(decoder)) | self.init_adapters(key)

    def init_adapters(self, key: Array) -> Params:
        """Adapters that do not change the network's output yet; {} without LoRA."""
        # The keys of the weights are `key` folded with small integers.
        own = jax.random.fold_in(key, 2**31)
        return init_adapters(self.adapted, self.shapes, own)

    def hidden(
        self, params: Params, tokens: Int[Array, "B T"], segments: Int[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Final hidden states of whole rows, positions counted from 0 in each segment.

        Tokens of one segment (1, 2, ...) are consecutive, and each attends to itself
        and those before it. Segment 0 is padding at the end, whose states are always 0.
        Unless `is_packed`, a row holds one segment.
        """
        index = jnp.arange(tokens.shape[1])[None]
        positions = jnp.broadcast_to(index, tokens.shape)
        if self.is_packed:
            positions = positions_in(segments)
        angles = layer_angles(self.architecture, positions)
        x = self._embedded(params, tokens, self.activation_sharding)

        def layer(x, slices):
            *weights, is_local = slices

            def attention(query, key, value):
                kept_apart = segments if self.is_packed else None
                heads = self._row_attention(query, key, value, kept_apart, is_local)
                return checkpoint_name(heads, SAVED_NAME)

            x = decoder_block(
                self.architecture,
                SeparateWeights(*self._gathered(*weights)),
                x,
                angles.of_layer(is_local),
                attention,
            )
            sharding = self.activation_sharding
            return x if sharding is None else sharding.by_rows(x), None

        layer = jax.checkpoint(layer, policy=None if self.remat else _SAVE_PRODUCTS)
        stacked = (params["blocks"], scaled_adapters(self.lora, params))
        if self.activation_sharding is not None:
            # Cast before gathering: this halves the bytes that are moved and kept for
            # gradients.
            stacked = self._cast(stacked)
        local = self.architecture.local_attention
        is_local = None if local is None else jnp.asarray(local.is_local)
        x, _ = jax.lax.scan(layer, x, (*stacked, is_local))
        is_token = segments[..., None] > 0
        return jnp.where(is_token, self._final_norm(params, x), 0)

    def for_rollouts(self, params: Params) -> Params:
        """The parameters in the form that `hidden_with` needs.

        Everything but norm scales, which are used in float32, is cast to `dtype` once.
        Each layer has separate fused weights instead of slices of stacked arrays, which
        would be copied at every step. Adapters are merged into their weights if that is
        exact; see `has_rollout_adapters`.
        """

        numbers = range(self.architecture.num_layers)
        layers = [self.rollout_layer(params, jnp.int32(number)) for number in numbers]
        return self.rollout_rest(params) | {
            name: [layer[name] for layer in layers] for name in layers[0]
        }

    @functools.cached_property
    def rollout_shapes(self) -> Params:
        """Shape and dtype of every parameter from `for_rollouts`.

        Layers have the same shapes, so one is traced: 0.2 s instead of 1.2 s for 30 of
        them, on two busy CPU cores.
        """
        layer = jax.eval_shape(self.rollout_layer, self.shapes, jnp.int32(0))
        return jax.eval_shape(self.rollout_rest, self.shapes) | {
            name: [shapes] * self.architecture.num_layers
            for name, shapes in layer.items()
        }

    def rollout_layer(self, params: Params, number: Int[Array, ""]) -> Params:
        """The parameters of one layer from `for_rollouts`: block and adapters, if any.

        With a traced layer number, one small program serves all layers.
        """
        stacked = {name: params[name] for name in (BLOCKS, ADAPTERS) if name in params}
        one = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, number, 1), stacked
        )
        if self.has_rollout_adapters:
            one = one | {ADAPTERS: scaled_adapters(self.lora, one)}
        else:
            one = merged(self.lora, one)
        one = jax.tree.map(lambda x: x[0], jax.tree.map_with_path(self._copied, one))
        block = fuse(one[BLOCKS], self.architecture, self.tensor_parallel_size)
        return one | {BLOCKS: block}

    def rollout_rest(self, params: Params) -> Params:
        """The parameters from `for_rollouts` that belong to no layer."""
        rest = {k: v for k, v in params.items() if k not in (BLOCKS, ADAPTERS)}
        return jax.tree.map_with_path(self._copied, rest)

    def _copied(self, path: tuple, leaf: Array) -> Array:
        """A copy in the dtype of activations; norm scales keep theirs.

        Copies even if nothing changes: jit may return its argument, and an update may
        donate that array later.
        """
        dtype = leaf.dtype if path[-1].key == "scale" else self.dtype
        return jnp.array(leaf, dtype, copy=True)

    @property
    def has_rollout_adapters(self) -> bool:
        """Whether rollouts apply low-rank updates next to their weights.

        In bfloat16, W + B A would be rounded to a multiple of about W / 256, which is
        more than most of B A: after five updates at a learning rate of 2e-5, merged
        weights have moved log-probs by 0.5 to 0.8 of what the trainer's have moved
        (projected), and separate ones by 1.00.

        The cost is that of the adapters' parameters. Rank 32 on all maps adds 4% to the
        bytes and FLOPs of a decoding step of a 0.5B network (2% for 3B, 1% for 7B), in
        14 narrow products per layer. On two CPU cores, four layers of the 0.5B took
        1.11 times as long, and 1.06 with rank 16 (16 rows, medians of paired runs on a
        loaded machine). Devices that share a copy also sum R numbers per token after
        `out` and after `down`.
        """
        return bool(self.lora.rank) and jnp.dtype(self.dtype) != jnp.float32

    @property
    def tensor_parallel_size(self) -> int:
        """Number of devices that share a copy of the parameters in rollouts."""
        return 1 if self.rollout_mesh is None else self.rollout_mesh.size

    @property
    def rollout_axes(self) -> dict[str, Any]:
        """The logical axis names of the result of `for_rollouts`."""
        axes = {name: a for name, a in self.logical_axes.items() if name != ADAPTERS}
        block = fused_axes(_layer_axes(axes["blocks"]), self.architecture)
        layers = {"blocks": [block] * self.architecture.num_layers}
        if self.has_rollout_adapters:
            adapters = _layer_axes(self.logical_axes[ADAPTERS])
            layers[ADAPTERS] = [adapters] * self.architecture.num_layers
        return axes | layers

    def hidden_with(
        self,
        params: Params,
        tokens: Int[Array, "R T"],
        positions: Int[Array, "R T"],
        attention: LayerAttention,
        states: Sequence[Any],
        shared: Any,
    ) -> tuple[Float[Array, "R T D"], list[Any]]:
        """Final hidden states, computed with a given attention function.

        Layers of one kind are traced once, because tracing every layer of a deep
        network can take longer than answering a question.

        Args:
          params: those of `for_rollouts`.
          attention: called once for each kind of layer; it must depend on the layer
            only through its arguments.
          states: per layer, what `attention` reads and replaces, such as its cache.
          shared: arrays that `attention` reads in all layers.

        Returns:
          The hidden states, and the new state of each layer.
        """

        def layer(window, weights, adapters, x, angles, state, shared):
            def attend(query, key, value):
                nonlocal state
                heads, state = attention(state, shared, window, query, key, value)
                return heads

            sizes = self.architecture, self.tensor_parallel_size
            fused = FusedWeights(weights, adapters, *sizes)
            x = decoder_block(self.architecture, fused, x, angles, attend)
            return x, state

        layer = jax.jit(layer, static_argnums=0)
        x = self._embedded(params, tokens, None)
        angles = layer_angles(self.architecture, positions)
        blocks, replaced = params["blocks"], []
        adapters = params.get(ADAPTERS, [{}] * len(blocks))
        for number, weights in enumerate(zip(blocks, adapters, strict=True)):
            window = self.architecture.window(number)
            of_layer = angles.of_layer(window is not None)
            x, state = layer(window, *weights, x, of_layer, states[number], shared)
            replaced.append(state)
        return self._final_norm(params, x), replaced

    def head(self, params: Params) -> Float[Array, "V D"]:
        """The matrix from hidden states to logits, in the dtype of activations."""
        return params[self.head_name].astype(self.dtype)

    @property
    def head_name(self) -> str:
        """The name of the head among the parameters."""
        return "embedding" if self.architecture.has_tied_head else "head"

    def _embedded(
        self, params: Params, tokens: Array, sharding: ActivationSharding | None
    ) -> Array:
        embedding = params["embedding"].astype(self.dtype)
        if sharding is None:
            x = embedding[tokens]
        else:
            x = sharding.embedded(embedding, tokens)
        scale = self.architecture.embedding_scale
        return x if scale == 1.0 else x * jnp.asarray(scale, self.dtype)

    def _row_attention(
        self,
        query: Array,
        key: Array,
        value: Array,
        segments: Array | None,
        is_local: Bool[Array, ""] | None,
    ) -> Array:
        """Attention for one layer of a scan, which may be a local layer."""

        def within(window: int | None) -> Callable[..., Array]:
            return functools.partial(self.attention, window=window, segments=segments)

        local = self.architecture.local_attention
        if local is None:
            return self.attention(query, key, value, segments=segments)
        return jax.lax.cond(
            is_local, within(local.window), within(None), query, key, value
        )

    def _gathered(self, weights: Params, adapters: Params) -> tuple[Params, Params]:
        """Weights and adapters of a layer, gathered for the products of each device."""
        if self.activation_sharding is None:
            return weights, adapters
        axes = _layer_axes(
            (self.logical_axes["blocks"], self.logical_axes.get(ADAPTERS, {}))
        )
        return self.activation_sharding.gathered((weights, adapters), axes)

    def _cast(self, weights: Any) -> Any:
        """Casts to the dtype of activations, except norm scales, which stay float32."""

        def cast(path: tuple, leaf: Array) -> Array:
            return leaf if path[-1].key == "scale" else leaf.astype(self.dtype)

        return jax.tree.map_with_path(cast, weights)

    def _final_norm(self, params: Params, x: Array) -> Array:
        return model_norm(self.architecture, x, params["norm"]["scale"])


def positions_in(segments: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Position of each token within its segment, counted from 0."""
    index = jnp.broadcast_to(jnp.arange(segments.shape[1])[None], segments.shape)
    is_first = segments != jnp.pad(segments, ((0, 0), (1, 0)))[:, :-1]
    return index - jax.lax.cummax(jnp.where(is_first, index, 0), axis=1)


def _layer_axes(stacked: Any) -> Any:
    """Logical axes of one layer's parameters, from those of all layers."""
    return jax.tree.map(
        lambda names: names[1:],
        stacked,
        is_leaf=lambda x: isinstance(x, tuple) and isinstance(x[0], str),
    )
