"""The sizes of a BERT encoder, read from and written to Hugging Face's config.json."""

import dataclasses
from typing import Any

from jaxsearch.models.hf_config import check_count, check_number

# Our name -> Hugging Face's.
_FIELDS = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "mlp_width": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "max_positions": "max_position_embeddings",
    "num_token_types": "type_vocab_size",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertArchitecture:
    """An encoder of the BERT family, for example E5, BGE, GTE or MiniLM."""

    vocab_size: int  # V
    width: int  # D
    mlp_width: int  # F
    num_layers: int  # L
    num_heads: int  # N
    max_positions: int  # longest row, in tokens
    num_token_types: int
    norm_eps: float = 1e-12

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if name != "norm_eps" and value < 1:
                raise ValueError(f"encoder {name} must be at least 1, got {value}")
        if not self.norm_eps > 0:
            raise ValueError(f"encoder norm_eps must be positive, got {self.norm_eps}")
        if self.width % self.num_heads:
            raise ValueError(
                f"encoder width must be a multiple of num_heads, got {self.width} and "
                f"{self.num_heads}"
            )

    @property
    def head_width(self) -> int:
        """H."""
        return self.width // self.num_heads

    @property
    def num_parameters(self) -> int:
        """Exact number of scalars, excluding the unused pooler."""
        D, F = self.width, self.mlp_width
        layer = 4 * D * D + 2 * D * F + F + 9 * D
        rows = self.vocab_size + self.max_positions + self.num_token_types
        return self.num_layers * layer + rows * D + 2 * D


def bert_from_hf_config(config: dict[str, Any]) -> BertArchitecture:
    """The architecture that a Hugging Face `config.json` describes.

    Raises:
      ValueError: naming the model type or the option that is not supported, or the
        field that is missing.
    """
    for name, expected in (
        ("model_type", "bert"),
        ("hidden_act", "gelu"),  # the exact GELU, with erf
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
        ("add_cross_attention", False),
        ("quantization_config", None),
    ):
        # Only the model type has no default in transformers' own BertConfig.
        found = config.get(name, None if name == "model_type" else expected)
        if found != expected:
            raise ValueError(
                f"{name} {found!r:.80} is not supported for an encoder; expected "
                f"{expected!r}"
            )
    for name in _FIELDS.values():
        if name not in config:
            raise ValueError(f"{name} must be a positive integer, got nothing")
        check_count(name, config[name])
    norm_eps = config.get("layer_norm_eps", 1e-12)
    check_number("layer_norm_eps", norm_eps)
    return BertArchitecture(
        **{ours: config[name] for ours, name in _FIELDS.items()},
        norm_eps=float(norm_eps),
    )


def bert_to_hf_config(architecture: BertArchitecture) -> dict[str, Any]:
    """The `config.json` from which transformers builds the same network."""
    sizes = dataclasses.asdict(architecture)
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        **{name: sizes[ours] for ours, name in _FIELDS.items()},
        "layer_norm_eps": architecture.norm_eps,
        "hidden_act": "gelu",
    }
