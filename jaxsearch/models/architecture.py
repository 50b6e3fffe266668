"""The sizes of a decoder."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3.1's stretch of the rotary wavelengths to longer contexts.

    Wavelengths of at most original_len / high_freq_factor tokens stay, those of at
    least original_len / low_freq_factor are `factor` times as long, and between the
    two the frequency goes over from one to the other.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_len: int  # context before the stretch, in tokens

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not 0 < value < math.inf:
                raise ValueError(f"rope scaling {name} must be positive, got {value}")
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                "rope scaling low_freq_factor must be less than high_freq_factor, got "
                f"{self.low_freq_factor} and {self.high_freq_factor}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A decoder of the Qwen or Llama family: RMSNorm, rotary, grouped heads."""

    vocab_size: int  # V
    width: int  # D
    mlp_width: int  # F
    num_layers: int  # L
    num_heads: int  # N, query heads
    num_kv_heads: int  # K
    head_width: int  # H
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None  # Llama 3.1 has it
    norm_eps: float = 1e-6
    has_qkv_bias: bool = True  # Qwen2 has it, Qwen3 and Llama do not
    has_qk_norm: bool = False  # Qwen3 has it: queries and keys are normalised by head
    has_tied_head: bool = True  # the head is the embedding
    max_positions: int | None = None  # context it was made for; None: nobody said

    def __post_init__(self):
        sizes = dataclasses.asdict(self)
        for name in (
            *("vocab_size", "width", "mlp_width", "num_layers"),
            *("num_heads", "num_kv_heads", "head_width"),
        ):
            if sizes[name] < 1:
                raise ValueError(f"model {name} must be at least 1, got {sizes[name]}")
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

    @property
    def num_parameters(self) -> int:
        """Exact number of trained scalars."""
        heads = (2 * self.num_heads + 2 * self.num_kv_heads) * self.head_width
        biases = (self.num_heads + 2 * self.num_kv_heads) * self.head_width
        layer = self.width * (heads + 3 * self.mlp_width + 2)
        layer += biases if self.has_qkv_bias else 0
        layer += 2 * self.head_width if self.has_qk_norm else 0
        embeddings = self.vocab_size * self.width * (1 if self.has_tied_head else 2)
        return self.num_layers * layer + embeddings + self.width
