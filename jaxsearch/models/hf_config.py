"""Converts an architecture from and to Hugging Face's `config.json`."""

from typing import Any

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.families.table import family_named, family_of


def from_hf_config(config: dict[str, Any]) -> Architecture:
    """The architecture that a Hugging Face `config.json` describes.

    Accepts files written by transformers 4 and 5.

    Raises:
      ValueError: naming the model type or the option that is not supported, or the
        field that is missing.
    """
    family = family_named(config.get("model_type"))
    if config.get("quantization_config"):
        raise ValueError("quantised weights are not supported; use the plain model")
    return family.read(config)


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
