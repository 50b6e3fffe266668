"""Reads and writes a BERT encoder as a Hugging Face folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsearch.json_files import read_json_object
from jaxsearch.models.bert import BertParams
from jaxsearch.models.bert_architecture import (
    BertArchitecture,
    bert_from_hf_config,
    bert_to_hf_config,
)
from jaxsearch.models.tensor_files import Tensor, open_tensors, read_part

_NAMES = {
    "words": "embeddings.word_embeddings.weight",
    "positions": "embeddings.position_embeddings.weight",
    "token_types": "embeddings.token_type_embeddings.weight",
    "norm/scale": "embeddings.LayerNorm.weight",
    "norm/bias": "embeddings.LayerNorm.bias",
}
_LAYER_NAMES = {
    "out/weight": "attention.output.dense.weight",
    "out/bias": "attention.output.dense.bias",
    "attention_norm/scale": "attention.output.LayerNorm.weight",
    "attention_norm/bias": "attention.output.LayerNorm.bias",
    "up/weight": "intermediate.dense.weight",
    "up/bias": "intermediate.dense.bias",
    "down/weight": "output.dense.weight",
    "down/bias": "output.dense.bias",
    "mlp_norm/scale": "output.LayerNorm.weight",
    "mlp_norm/bias": "output.LayerNorm.bias",
}
_QKV = ("query", "key", "value")
# Heads of pretraining, and buffers that old versions of transformers saved.
_UNUSED = ("pooler.", "cls.", "embeddings.position_ids", "embeddings.token_type_ids")


def read_bert_architecture(folder: Path) -> BertArchitecture:
    """The architecture of a Hugging Face folder.

    Raises:
      ValueError: naming the file and the field that is missing or not supported.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"encoder folder {folder} has no config.json")
    config = read_json_object(path)
    try:
        return bert_from_hf_config(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_layers(folder: Path, num_layers: int) -> None:
    """Checks that the folder has weights of the last layer.

    To be called before the network is made, which takes longer the deeper it is.

    Raises:
      ValueError: if it has none, or its files cannot be read.
    """
    last = f"encoder.layer.{num_layers - 1}."
    if not any(last in name for name in open_tensors(folder)):
        raise ValueError(
            f"{folder}: config.json has {num_layers} layers, but there is no tensor "
            f"{last}* in its safetensors files"
        )


def read_bert_params(
    folder: Path, shapes: BertParams, *, others: tuple[str, ...] = ()
) -> BertParams:
    """Float32 parameters of a Hugging Face folder, as NumPy arrays.

    Tensor names may begin with `bert.`; float16 and bfloat16 are cast.

    Args:
      folder: the model's folder.
      shapes: shape of every parameter.
      others: tensors of the folder, by the beginnings of their names, that the caller
        reads itself.

    Raises:
      ValueError: naming the file and the tensor that cannot be read, is missing, is
        not expected, or does not fit config.json.
    """
    tensors = {}
    for name, tensor in open_tensors(folder).items():
        bare = name.removeprefix("bert.")
        # The original BERT checkpoints use TensorFlow's names for norms.
        bare = bare.replace("LayerNorm.gamma", "LayerNorm.weight")
        bare = bare.replace("LayerNorm.beta", "LayerNorm.bias")
        if not bare.startswith(_UNUSED + others):
            tensors[bare] = tensor
    wanted = _wanted(shapes)
    for name in sorted(
        tensors.keys() - {n for names in wanted.values() for n in names}
    ):
        raise ValueError(
            f"{tensors[name].file}: unexpected tensor {name}, which "
            "config.json does not describe"
        )

    def one(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        names = wanted[_key(path)]
        part_shape = (shape.shape[0] // len(names), *shape.shape[1:])
        # Before memory is taken: config.json may ask for any shape.
        for name in names:
            if name not in tensors:
                raise ValueError(f"{folder}: no tensor {name} in its safetensors files")
            _check(tensors[name], name, part_shape)
        out = np.empty(shape.shape, np.float32)
        for part, name in zip(np.split(out, len(names)), names, strict=True):
            part[...] = read_part(tensors[name], part_shape, [slice(None)] * part.ndim)
        return out

    return jax.tree.map_with_path(one, shapes)


def write_bert(
    folder: Path, architecture: BertArchitecture, params: BertParams
) -> None:
    """Writes config.json and model.safetensors (float32) into an existing folder."""
    from safetensors.numpy import save_file

    leaves = jax.tree.leaves_with_path(params)
    wanted, tensors = _wanted(params), {}
    for path, array in leaves:
        names = wanted[_key(path)]
        parts = np.split(np.asarray(array, np.float32), len(names))
        tensors |= zip(names, map(np.ascontiguousarray, parts), strict=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.dumps(bert_to_hf_config(architecture), indent=2)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")


def read_tensor(
    folder: Path, tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]
) -> np.ndarray:
    """One tensor of a folder in float32.

    Raises:
      ValueError: if it is missing or of another shape.
    """
    if name not in tensors:
        raise ValueError(f"{folder}: no tensor {name} in its safetensors files")
    _check(tensors[name], name, shape)
    found = read_part(tensors[name], shape, [slice(None)] * len(shape))
    return np.asarray(found, np.float32)


def _check(tensor: Tensor, name: str, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise ValueError(
            f"{tensor.file}: tensor {name} has shape {tensor.shape}, config.json asks "
            f"for {shape}"
        )
    if tensor.dtype == np.int64:
        raise ValueError(f"{tensor.file}: tensor {name} is int64, expected floats")


def _wanted(tree: BertParams) -> dict[str, list[str]]:
    """Maps the path of every parameter to its tensors in the file, stacked by rows."""
    found = {}
    for path, _ in jax.tree.leaves_with_path(tree):
        key = _key(path)
        if not key.startswith("blocks/"):
            found[key] = [_NAMES[key]]
            continue
        _, layer, rest = key.split("/", 2)
        if rest.startswith("qkv/"):
            suffix = rest.removeprefix("qkv/")
            names = [f"attention.self.{part}.{suffix}" for part in _QKV]
        else:
            names = [_LAYER_NAMES[rest]]
        found[key] = [f"encoder.layer.{layer}.{name}" for name in names]
    return found


def _key(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
