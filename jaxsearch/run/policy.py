"""A policy to start from: random weights, or a Hugging Face folder."""

import dataclasses
import json
import sys
from typing import Any

import jax.numpy as jnp

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.hf_config import from_hf_config
from jaxsearch.models.hub import WEIGHTS, local_folder
from jaxsearch.models.load import load, some, total_bytes, unexpected_tensors
from jaxsearch.models.tensor_files import open_tensors
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.monitor.console import byte_bar

_VOCAB_MULTIPLE = 16  # random weights: rows of the embedding divide over devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """A network, its tokenizer, and parameters on the host or a device."""

    transformer: Transformer
    tokenizer: Tokenizer
    params: Params


def padded_vocab(tokenizer: Tokenizer) -> int:
    """Rows of an embedding made for this tokenizer."""
    return -(-tokenizer.num_ids // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE


def read_architecture(folder: str) -> Architecture:
    """The architecture of a Hugging Face folder, or of a Hub id through its cache."""
    path = local_folder(folder, "model", WEIGHTS) / "config.json"
    if not path.is_file():
        raise ValueError(f"model folder {folder} has no config.json")
    try:
        return from_hf_config(json.loads(path.read_text()))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_params(
    folder: str, transformer: Transformer, shardings: Params, dtype: Any = jnp.float32
) -> Params:
    """Parameters of a Hugging Face folder, each in its place on the devices.

    A bar on stderr shows how far it is; tensors that the network has no place for are
    named there.

    Errors: ValueError names the file and the tensor that is missing, damaged or of
    another shape than config.json says.
    """
    tensors = open_tensors(local_folder(folder, "model", WEIGHTS))
    architecture, shapes = transformer.architecture, transformer.shapes
    try:
        unexpected = unexpected_tensors(tensors, architecture, shapes)
    except ValueError as error:
        raise ValueError(
            f"model folder {folder} does not fit its config.json: {error}"
        ) from None
    if unexpected:
        print(f"{folder}: not used: {some(unexpected)}", file=sys.stderr)
    with byte_bar("loading", total_bytes(tensors)) as advance:
        return load(
            tensors, architecture, shapes, shardings, dtype=dtype, on_bytes=advance
        )
