"""A policy: its architecture and parameters, read from a Hugging Face folder."""

import dataclasses
import sys
from typing import Any

import jax.numpy as jnp

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.data.tokenizer_files import read_json
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.hf_config import from_hf_config
from jaxsearch.models.hub import WEIGHTS, local_folder
from jaxsearch.models.load import load, some, total_bytes, unexpected_tensors
from jaxsearch.models.tensor_files import open_tensors
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.monitor.bars import byte_bar
from jaxsearch.visible import visible

# For random weights, so that the embedding's rows can be sharded evenly.
_VOCAB_MULTIPLE = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """A network, its tokenizer and its parameters, on the host or on devices."""

    transformer: Transformer
    tokenizer: Tokenizer
    params: Params


def padded_vocab(tokenizer: Tokenizer) -> int:
    """Number of rows of a new embedding for this tokenizer."""
    return -(-tokenizer.num_ids // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE


def read_architecture(folder: str) -> Architecture:
    """The architecture of a Hugging Face folder or Hub id.

    Raises:
      ValueError: if there is no config.json, it is malformed, or its architecture is
        not supported.
    """
    path = local_folder(folder, "model", WEIGHTS) / "config.json"
    if not path.is_file():
        raise ValueError(f"model folder {folder} has no config.json")
    config = read_json(path)
    try:
        return from_hf_config(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_params(
    folder: str, transformer: Transformer, shardings: Params, dtype: Any = jnp.float32
) -> Params:
    """Reads the parameters of a Hugging Face folder onto the devices.

    Progress and the names of unused tensors are printed on standard error.

    Args:
      folder: Hugging Face folder or Hub id.
      transformer: the network.
      shardings: the sharding of each parameter.
      dtype: dtype of the parameters.

    Raises:
      ValueError: for a tensor that is missing, damaged or has a shape that differs from
        config.json; the error names the file and the tensor.
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
        line = visible(f"{folder}: not used: {some(unexpected)}")
        print(line, file=sys.stderr)
    with byte_bar("loading", total_bytes(tensors)) as advance:
        return load(
            tensors, architecture, shapes, shardings, dtype=dtype, on_bytes=advance
        )
