"""The sizes of a decoder, and Hugging Face's names for them."""

import dataclasses
from typing import Any

_TYPES = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A decoder of the Qwen2 or Llama family: RMSNorm, rotary, grouped heads."""

    vocab_size: int  # V
    width: int  # D
    mlp_width: int  # F
    num_layers: int  # L
    num_heads: int  # N, query heads
    num_kv_heads: int  # K
    head_width: int  # H
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    has_qkv_bias: bool = True  # Qwen2 has it, Llama does not
    has_tied_head: bool = True  # the head is the embedding

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

    @property
    def num_parameters(self) -> int:
        """Exact number of trained scalars."""
        heads = (2 * self.num_heads + 2 * self.num_kv_heads) * self.head_width
        biases = (self.num_heads + 2 * self.num_kv_heads) * self.head_width
        layer = self.width * (heads + 3 * self.mlp_width + 2)
        layer += biases if self.has_qkv_bias else 0
        embeddings = self.vocab_size * self.width * (1 if self.has_tied_head else 2)
        return self.num_layers * layer + embeddings + self.width


def from_hf_config(config: dict[str, Any]) -> Architecture:
    """The architecture that a Hugging Face `config.json` describes.

    Errors: ValueError names the model type or the option that is not supported
    (rope scaling, sliding windows), or the field that is missing.
    """
    kind = config.get("model_type")
    if kind not in _TYPES:
        raise ValueError(f"model_type {kind!r} is not supported; known: {list(_TYPES)}")
    # transformers 5 gathers the rotary settings, 4 has them side by side
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling != "default":
        raise ValueError(
            f"rope scaling {scaling!r} is not supported; only unscaled rotary is"
        )
    kinds = set(config.get("layer_types") or ()) - {"full_attention"}
    if config.get("use_sliding_window") or kinds:
        raise ValueError("sliding-window attention is not supported; only full is")
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act must be 'silu', got {config['hidden_act']!r}")
    if config.get("mlp_bias"):
        raise ValueError("mlp_bias is not supported; expected false")
    if kind == "llama" and config.get("attention_bias"):
        raise ValueError("attention_bias is not supported for llama; expected false")
    try:
        return Architecture(
            vocab_size=config["vocab_size"],
            width=config["hidden_size"],
            mlp_width=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            num_kv_heads=config.get(
                "num_key_value_heads", config["num_attention_heads"]
            ),
            head_width=config.get("head_dim")
            or config["hidden_size"] // config["num_attention_heads"],
            rope_theta=float(
                rope.get("rope_theta", config.get("rope_theta", 10_000.0))
            ),
            norm_eps=config.get("rms_norm_eps", 1e-6),
            has_qkv_bias=kind == "qwen2",
            has_tied_head=config.get("tie_word_embeddings", False),
        )
    except KeyError as missing:
        raise ValueError(f"config.json has no field {missing}") from None


def to_hf_config(
    architecture: Architecture, *, max_positions: int, dtype: str
) -> dict[str, Any]:
    """The `config.json` with which transformers builds the same network."""
    kind = "qwen2" if architecture.has_qkv_bias else "llama"
    return {
        "architectures": [_TYPES[kind]],
        "model_type": kind,
        "vocab_size": architecture.vocab_size,
        "hidden_size": architecture.width,
        "intermediate_size": architecture.mlp_width,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "num_key_value_heads": architecture.num_kv_heads,
        "head_dim": architecture.head_width,
        "hidden_act": "silu",
        "rope_theta": architecture.rope_theta,
        "rms_norm_eps": architecture.norm_eps,
        "max_position_embeddings": max_positions,
        "tie_word_embeddings": architecture.has_tied_head,
        "torch_dtype": dtype,
    }
