"""Converts an architecture from and to Hugging Face's `config.json`."""

import sys
from typing import Any

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.families.table import family_named, family_of

# Fields by the type of their value, at any depth of the objects.
_COUNTS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "sliding_window"),
    *("max_position_embeddings", "original_max_position_embeddings"),
    "sliding_window_pattern",
)
# Far above every model; larger ones would take hours to refuse.
_MAX_COUNT, _MAX_LAYERS = 2**31, 10_000
_NUMBERS = (
    *("rope_theta", "rms_norm_eps", "rope_local_base_freq", "query_pre_attn_scalar"),
    *("factor", "low_freq_factor", "high_freq_factor"),
)
_LISTS = ("layer_types",)
# The last two are those of Gemma 3 in transformers 5.
_OBJECTS = (
    *("rope_parameters", "rope_scaling"),
    *("full_attention", "sliding_attention"),
)


def from_hf_config(config: dict[str, Any]) -> Architecture:
    """The architecture that a Hugging Face `config.json` describes.

    Accepts files written by transformers 4 and 5.

    Raises:
      ValueError: naming the model type or the option that is not supported, or the
        field that is missing, has a value of another type, or is out of range.
    """
    family = family_named(config.get("model_type"))
    _check_fields(config)
    if config.get("quantization_config"):
        raise ValueError("quantised weights are not supported; use the plain model")
    return family.read(config)


def _check_fields(config: dict[str, Any]) -> None:
    """Checks the fields that families read, where they are not null.

    Raises:
      ValueError: naming the field.
    """
    for name, value in config.items():
        if value is None:
            continue
        if name in _COUNTS:
            check_count(name, value)
        if name in _NUMBERS:
            check_number(name, value)
        if name in _LISTS and not isinstance(value, list):
            raise ValueError(f"{name} must be a list, got {value!r:.80}")
        if name in _OBJECTS:
            if not isinstance(value, dict):
                raise ValueError(f"{name} must be an object, got {value!r:.80}")
            _check_fields(value)


def check_count(name: str, value: Any) -> None:
    """Checks a size of a model.

    Raises:
      ValueError: if it is not a positive integer, or larger than in any model.
    """
    if not (type(value) is int and value > 0):
        raise ValueError(f"{name} must be a positive integer, got {value!r:.80}")
    limit = _MAX_LAYERS if name == "num_hidden_layers" else _MAX_COUNT
    if value > limit:
        raise ValueError(f"{name} must be at most {limit:,}, got {value!r:.80}")


def check_number(name: str, value: Any) -> None:
    """Checks a number of a model, such as the base of its rotary wavelengths.

    Raises:
      ValueError: if it is not a number, or not positive and finite.
    """
    if type(value) not in (int, float):
        raise ValueError(f"{name} must be a number, got {value!r:.80}")
    # An integer may be too large to become a float.
    if not 0 < value <= sys.float_info.max:
        raise ValueError(f"{name} must be positive and finite, got {value!r:.80}")


def to_hf_config(
    architecture: Architecture, *, max_positions: int, dtype: str
) -> dict[str, Any]:
    """The `config.json` from which transformers builds the same network.

    It has the layout of transformers 4, which transformers 5, vLLM and SGLang also
    read.

    Args:
      max_positions: context length to write if the architecture has none.

    Raises:
      ValueError: if no known family has this architecture.
    """
    family = family_of(architecture)
    return {
        "architectures": [family.class_name],
        "model_type": family.model_type,
        **family.write(architecture),
        "max_position_embeddings": architecture.max_positions or max_positions,
        "torch_dtype": dtype,
    }
