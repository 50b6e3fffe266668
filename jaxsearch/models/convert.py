"""Parameters to and from the names and layouts of Hugging Face files."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.transformer import Params

_LAYER = {
    ("attention_norm", "scale"): "input_layernorm.weight",
    ("mlp_norm", "scale"): "post_attention_layernorm.weight",
    ("projections", "query"): "self_attn.q_proj.weight",
    ("projections", "key"): "self_attn.k_proj.weight",
    ("projections", "value"): "self_attn.v_proj.weight",
    ("projections", "out"): "self_attn.o_proj.weight",
    ("projections", "query_bias"): "self_attn.q_proj.bias",
    ("projections", "key_bias"): "self_attn.k_proj.bias",
    ("projections", "value_bias"): "self_attn.v_proj.bias",
    ("mlp", "gate"): "mlp.gate_proj.weight",
    ("mlp", "up"): "mlp.up_proj.weight",
    ("mlp", "down"): "mlp.down_proj.weight",
}


def _names(architecture: Architecture) -> dict[tuple[str, ...], str]:
    """Our path of every parameter outside the layers -> its name in the file."""
    names = {("embedding",): "model.embed_tokens.weight"}
    names[("norm", "scale")] = "model.norm.weight"
    if not architecture.has_tied_head:
        names[("head",)] = "lm_head.weight"
    return names


def _layer_names(architecture: Architecture) -> dict[tuple[str, ...], str]:
    return {
        path: name
        for path, name in _LAYER.items()
        if architecture.has_qkv_bias or not path[1].endswith("_bias")
    }


def to_hf(
    params: Params, architecture: Architecture
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of every tensor of the file, one layer at a time.

    Heads and their width become one axis, as torch's linear maps have it.
    """
    for path, name in _names(architecture).items():
        yield name, np.asarray(_at(params, path))
    for path, name in _layer_names(architecture).items():
        stacked = _at(params["blocks"], path)
        for layer in range(architecture.num_layers):
            array = np.asarray(stacked[layer])
            yield (
                f"model.layers.{layer}.{name}",
                array.reshape(_flat(path, array.shape)),
            )


def from_hf(
    read: Callable[[str], np.ndarray], shapes: Params, architecture: Architecture
) -> Params:
    """Float32 parameters from a file's tensors; `read` gives one by its name.

    Errors: ValueError names a tensor whose size does not fit.
    """
    params: dict[str, Any] = {}
    for path, name in _names(architecture).items():
        array = np.asarray(read(name), np.float32)
        _put(params, path, _fitted(array, _at(shapes, path).shape, name))
    blocks: dict[str, Any] = {}
    for path, name in _layer_names(architecture).items():
        shape = _at(shapes["blocks"], path).shape
        stacked = np.empty(shape, np.float32)
        for layer in range(architecture.num_layers):
            full = f"model.layers.{layer}.{name}"
            stacked[layer] = _fitted(
                np.asarray(read(full), np.float32), shape[1:], full
            )
        _put(blocks, path, stacked)
    return {**params, "blocks": blocks}


def _flat(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    if path == ("projections", "out"):
        return (shape[0], shape[1] * shape[2])  # [D N H] -> [D N*H]
    if path[0] == "projections":
        return (shape[0] * shape[1], *shape[2:])  # [N H D] -> [N*H D]
    return shape


def _fitted(array: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    if array.size != np.prod(shape):
        raise ValueError(
            f"tensor {name} has shape {array.shape}, config.json asks for {shape}"
        )
    return array.reshape(shape)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
