"""What a run must compute, send and hold at least, without a compiler."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxsearch.models.architecture import Architecture
from jaxsearch.rollout.memory import slot_bytes

_STATE_BYTES = 4  # of a parameter, a moment, a gradient, a reference: all float32
_CHUNK_BYTES = 3 * 2**27  # logits of the head and what is made of them


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateWork:
    """One microbatch on a mesh.

    Attributes:
      num_trained: parameters with a gradient; fewer than all with LoRA.
      itemsize: bytes of an activation.
      moment_bytes: of one of AdamW's two.
      remat: layers are computed again from their input.
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
        """Products of the model, in all: forward, backward, and the reference.

        As if every token were the policy's. Of what is not trained no gradient is
        computed, only that of its input; a layer that is computed again counts again.
        """
        is_whole = self.num_trained >= self.architecture.num_parameters
        layers, head = _forward_flops(self.architecture, self.rows, self.row_len)
        passes = (3 if is_whole else 2) + self.has_reference
        return passes * (layers + head) + self.remat * layers

    @property
    def least_received(self) -> float:
        """Bytes that a device must receive over `fsdp`: weights gathered twice, and
        once for the reference, gradients summed and scattered once.

        Of all weights but an embedding that is no head: its rows are looked up.
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
        """Of a device: parameters, trained or not, and the reference."""
        num_all = self.architecture.num_parameters
        frozen = 0 if self.num_trained >= num_all else num_all
        kept = frozen + self.num_trained * (1 + self.has_reference)
        return kept * _STATE_BYTES / (self.fsdp * self.tensor)

    @property
    def moments_bytes(self) -> float:
        """Of a device: AdamW's two for each parameter."""
        return 2 * self.moment_bytes * self.num_trained / (self.fsdp * self.tensor)

    @property
    def sums_bytes(self) -> float:
        """Of a device: gradients summed over microbatches."""
        return self.num_trained * _STATE_BYTES / (self.fsdp * self.tensor)

    @property
    def state_bytes(self) -> float:
        """Of a device, at all times."""
        return self.trained_bytes + self.moments_bytes

    @property
    def update_bytes(self) -> float:
        """Of a device, at the most: an estimate, where no compiler says it."""
        a, tensor = self.architecture, self.tensor
        positions = self.rows // (self.data * self.fsdp) * self.row_len
        heads = (a.num_heads + 2 * a.num_kv_heads) * a.head_width / tensor
        wide = 3 * a.mlp_width / tensor
        saved = a.width + (0 if self.remat else 3 * a.width + 2 * heads + wide)
        saved *= a.num_layers * positions * self.itemsize
        layer = positions * self.itemsize * (4 * a.width + 3 * heads + 2 * wide)
        weights = layer_weights(a) / tensor * self.itemsize
        copy = a.num_parameters * self.itemsize / (self.fsdp * tensor)
        # The head as it is gathered and as products read it, and its gradient.
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
    """One replica with its slots full, as a device of it sees it.

    Attributes:
      tensor: devices that share the copy.
      cached_tokens: that the cache has room for.
      append_tokens: of observations, fed at once.
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
        """Of a slot that is given all of `max_len`."""
        return slot_bytes(self.architecture, self.max_len, self.dtype, self.tensor)

    @property
    def cache_bytes(self) -> int:
        """Of all slots together."""
        return slot_bytes(
            self.architecture, self.cached_tokens, self.dtype, self.tensor
        )

    @property
    def logits_bytes(self) -> float:
        """Of a step of decoding: logits, and what sampling makes of them."""
        return 3.0 * 4 * self.num_slots * self.architecture.vocab_size

    @property
    def decode_flops(self) -> float:
        """Products of one step."""
        a = self.architecture
        products = a.num_layers * layer_weights(a) + a.vocab_size * a.width
        attention = 4 * self.cached_tokens * a.num_layers * a.num_heads * a.head_width
        return (2.0 * self.num_slots * products + attention) / self.tensor

    def append_flops(self, num_tokens: int) -> float:
        """Products of the layers for new tokens, without attention."""
        a = self.architecture
        return 2.0 * num_tokens * a.num_layers * layer_weights(a) / self.tensor


def _forward_flops(a: Architecture, rows: int, row_len: int) -> tuple[float, float]:
    """Of the layers, in which a token sees half of its row, and of the head."""
    tokens = rows * row_len
    attention = 2.0 * row_len * tokens * a.num_layers * a.num_heads * a.head_width
    layers = 2.0 * tokens * a.num_layers * layer_weights(a) + attention
    return layers, 2.0 * tokens * a.vocab_size * a.width


def layer_weights(a: Architecture) -> int:
    """Numbers in the matrices of a layer."""
    heads = (2 * a.num_heads + 2 * a.num_kv_heads) * a.head_width
    return a.width * (heads + 3 * a.mlp_width)
