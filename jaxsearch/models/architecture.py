"""The sizes and options of a decoder."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax


def _check_positive(name: str, value: int | float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3.1's scaling of rotary wavelengths to longer contexts.

    Wavelengths of at most original_len / high_freq_factor tokens are unchanged, those
    of at least original_len / low_freq_factor are multiplied by `factor`, and
    frequencies in between are interpolated.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_len: int  # context length before scaling, in tokens

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            _check_positive(f"rope scaling {name}", value)
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                "rope scaling low_freq_factor must be less than high_freq_factor, got "
                f"{self.low_freq_factor} and {self.high_freq_factor}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalAttention:
    """Sliding-window attention in some of the layers, as in Gemma 3.

    Attributes:
      window: number of positions that a query attends to, its own included.
      is_local: whether each layer has local attention.
      rope_theta: base of the rotary wavelengths in local layers, which are never
        scaled.
    """

    window: int
    is_local: tuple[bool, ...]
    rope_theta: float

    def __post_init__(self):
        if self.window < 1:
            raise ValueError(
                f"local attention window must be at least 1, got {self.window}"
            )
        _check_positive("local attention rope_theta", self.rope_theta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A decoder with RMSNorm, rotary positions, grouped heads and a gated MLP.

    Model families differ in the options after `norm_eps`.
    """

    vocab_size: int  # V
    width: int  # D
    mlp_width: int  # F
    num_layers: int  # L
    num_heads: int  # N, query heads
    num_kv_heads: int  # K
    head_width: int  # H
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None  # Llama 3.1
    norm_eps: float = 1e-6
    has_qkv_bias: bool = True  # Qwen2
    has_qk_norm: bool = False  # Qwen3, Gemma 3: RMSNorm of queries and keys per head
    has_tied_head: bool = True  # the head is the embedding
    has_post_norms: bool = False  # Gemma: more norms, after attention and MLP
    norm_scale_offset: float = 0.0  # added to every stored norm scale; Gemma: 1
    activation: Callable[[Any], Any] = jax.nn.silu  # of the MLP's gate
    embedding_scale: float = 1.0  # multiplies embedded tokens; Gemma: sqrt(D)
    query_scale: float | None = None  # multiplies scores; None: H ** -0.5
    local_attention: LocalAttention | None = None  # None: every layer sees all tokens
    max_positions: int | None = None  # trained context length; None: unknown

    def __post_init__(self):
        for name in (
            *("vocab_size", "width", "mlp_width", "num_layers"),
            *("num_heads", "num_kv_heads", "head_width"),
        ):
            if vars(self)[name] < 1:
                raise ValueError(
                    f"model {name} must be at least 1, got {vars(self)[name]}"
                )
        for name in ("rope_theta", "norm_eps"):
            _check_positive(f"model {name}", vars(self)[name])
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads must be a multiple of num_kv_heads, got "
                f"{self.num_heads} and {self.num_kv_heads}"
            )
        if self.head_width % 2:
            raise ValueError(
                f"head_width must be even for rotary, got {self.head_width}"
            )
        if self.has_qkv_bias and self.has_qk_norm:
            raise ValueError(
                "no known family has both biases and norms of queries and keys; "
                "choose has_qkv_bias (Qwen2) or has_qk_norm (Qwen3)"
            )
        local = self.local_attention
        if local is not None and len(local.is_local) != self.num_layers:
            raise ValueError(
                f"local_attention.is_local needs one value per layer: got "
                f"{len(local.is_local)} for {self.num_layers} layers"
            )

    def window(self, layer: int) -> int | None:
        """A layer's attention window in tokens; None for full attention."""
        local = self.local_attention
        return local.window if local is not None and local.is_local[layer] else None

    @property
    def num_parameters(self) -> int:
        """Exact number of trained scalars."""
        heads = (2 * self.num_heads + 2 * self.num_kv_heads) * self.head_width
        biases = (self.num_heads + 2 * self.num_kv_heads) * self.head_width
        num_norms = 4 if self.has_post_norms else 2
        layer = self.width * (heads + 3 * self.mlp_width + num_norms)
        layer += biases if self.has_qkv_bias else 0
        layer += 2 * self.head_width if self.has_qk_norm else 0
        embeddings = self.vocab_size * self.width * (1 if self.has_tied_head else 2)
        return self.num_layers * layer + embeddings + self.width
