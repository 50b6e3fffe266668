"""FLOPs, communication and memory of a run, estimated without a compiler."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxsearch.models.architecture import Architecture
from jaxsearch.rollout.memory import slot_bytes

_STATE_BYTES = 4  # per parameter, gradient, reference or moment in float32
_CHUNK_BYTES = 3 * 2**27  # of a chunk of logits and the arrays computed from it


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateWork:
    """The update of one microbatch on a mesh.

    Attributes:
      num_trained: number of trained parameters; with LoRA, fewer than all.
      itemsize: bytes per activation.
      moment_bytes: bytes per parameter of one of AdamW's two moments.
      remat: whether layers are recomputed in the backward pass.
    """

    architecture: Architecture
    rows: int
    row_len: int
    data: int
    fsdp: int
    tensor: int
    itemsize: int
    num_trained: int
    moment_bytes: int
    remat: bool
    has_reference: bool

    @property
    def own_flops(self) -> float:
        """FLOPs of the matrix products on all devices: forward, backward and reference.

        Every token is assumed to count in the loss. For frozen weights, only the
        gradient of their input is computed. Recomputed layers are counted again.
        """
        is_whole = self.num_trained >= self.architecture.num_parameters
        layers, head = _forward_flops(self.architecture, self.rows, self.row_len)
        passes = (3 if is_whole else 2) + self.has_reference
        return passes * (layers + head) + self.remat * layers

    @property
    def least_received(self) -> float:
        """Lower bound of the bytes that a device receives over `fsdp`.

        Weights are gathered twice, and once more for the reference; gradients are
        reduced and scattered once. An untied embedding is not counted, because only
        some of its rows are looked up.
        """
        a = self.architecture
        looked_up = 0 if a.has_tied_head else a.vocab_size * a.width
        share = (self.fsdp - 1) / self.fsdp / self.tensor * self.itemsize
        gathered = (a.num_parameters - looked_up) * share
        is_whole = self.num_trained >= a.num_parameters
        summed = gathered if is_whole else self.num_trained * share
        return (2 + self.has_reference) * gathered + summed

    @property
    def trained_bytes(self) -> float:
        """Bytes per device of all parameters and the reference."""
        num_all = self.architecture.num_parameters
        frozen = 0 if self.num_trained >= num_all else num_all
        kept = frozen + self.num_trained * (1 + self.has_reference)
        return kept * _STATE_BYTES / (self.fsdp * self.tensor)

    @property
    def moments_bytes(self) -> float:
        """Bytes per device of AdamW's moments."""
        return 2 * self.moment_bytes * self.num_trained / (self.fsdp * self.tensor)

    @property
    def sums_bytes(self) -> float:
        """Bytes per device of the gradients summed over microbatches."""
        return self.num_trained * _STATE_BYTES / (self.fsdp * self.tensor)

    @property
    def state_bytes(self) -> float:
        """Bytes per device that stay allocated throughout a run."""
        return self.trained_bytes + self.moments_bytes

    @property
    def update_bytes(self) -> float:
        """Estimated peak bytes per device during an update."""
        a, tensor = self.architecture, self.tensor
        positions = self.rows // (self.data * self.fsdp) * self.row_len
        heads = (a.num_heads + 2 * a.num_kv_heads) * a.head_width / tensor
        wide = 3 * a.mlp_width / tensor
        saved = a.width + (0 if self.remat else 3 * a.width + 2 * heads + wide)
        saved *= a.num_layers * positions * self.itemsize
        layer = positions * self.itemsize * (4 * a.width + 3 * heads + 2 * wide)
        weights = layer_weights(a) / tensor * self.itemsize
        copy = a.num_parameters * self.itemsize / (self.fsdp * tensor)
        # The gathered head, its copy in the dtype of the products, and its gradient.
        head = a.vocab_size // tensor * a.width * (4 * self.itemsize + 4)
        return (
            self.state_bytes
            + self.sums_bytes
            + saved
            + copy
            + max(head + _CHUNK_BYTES, copy + layer + 2 * weights)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutWork:
    """Rollouts of one replica with full slots; sizes and FLOPs are per device.

    Attributes:
      tensor: devices that share one copy of the policy.
      cached_tokens: number of tokens in the KV cache.
      append_tokens: number of observation tokens in one append.
    """

    architecture: Architecture
    tensor: int
    num_slots: int
    max_len: int
    cached_tokens: int
    append_tokens: int
    dtype: Any

    @property
    def params_bytes(self) -> float:
        itemsize = jnp.dtype(self.dtype).itemsize
        return self.architecture.num_parameters * itemsize / self.tensor

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot with `max_len` tokens."""
        return slot_bytes(self.architecture, self.max_len, self.dtype, self.tensor)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the KV cache."""
        return slot_bytes(
            self.architecture, self.cached_tokens, self.dtype, self.tensor
        )

    @property
    def logits_bytes(self) -> float:
        """Bytes of a decoding step's logits and of the arrays created by sampling."""
        return 3.0 * 4 * self.num_slots * self.architecture.vocab_size / self.tensor

    @property
    def decode_flops(self) -> float:
        """FLOPs of one decoding step."""
        a = self.architecture
        products = a.num_layers * layer_weights(a) + a.vocab_size * a.width
        attention = 4 * self.cached_tokens * a.num_layers * a.num_heads * a.head_width
        return (2.0 * self.num_slots * products + attention) / self.tensor

    def append_flops(self, num_tokens: int) -> float:
        """FLOPs of the layers for new tokens, excluding attention."""
        a = self.architecture
        return 2.0 * num_tokens * a.num_layers * layer_weights(a) / self.tensor


def _forward_flops(a: Architecture, rows: int, row_len: int) -> tuple[float, float]:
    """FLOPs of the layers (causal attention: half a row per token), and of the head."""
    tokens = rows * row_len
    attention = 2.0 * row_len * tokens * a.num_layers * a.num_heads * a.head_width
    layers = 2.0 * tokens * a.num_layers * layer_weights(a) + attention
    return layers, 2.0 * tokens * a.vocab_size * a.width


def layer_weights(a: Architecture) -> int:
    """Parameters in the matrices of one layer."""
    heads = (2 * a.num_heads + 2 * a.num_kv_heads) * a.head_width
    return a.width * (heads + 3 * a.mlp_width)
