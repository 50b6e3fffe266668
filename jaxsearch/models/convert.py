"""Parameters to and from the names and layouts of Hugging Face files."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.transformer import Params

TreePath = tuple[str, ...]

_LAYER: dict[TreePath, str] = {
    ("attention_norm", "scale"): "input_layernorm.weight",
    ("projections", "query"): "self_attn.q_proj.weight",
    ("projections", "query_bias"): "self_attn.q_proj.bias",
    ("projections", "query_norm", "scale"): "self_attn.q_norm.weight",
    ("projections", "key"): "self_attn.k_proj.weight",
    ("projections", "key_bias"): "self_attn.k_proj.bias",
    ("projections", "key_norm", "scale"): "self_attn.k_norm.weight",
    ("projections", "value"): "self_attn.v_proj.weight",
    ("projections", "value_bias"): "self_attn.v_proj.bias",
    ("projections", "out"): "self_attn.o_proj.weight",
    ("mlp_norm", "scale"): "post_attention_layernorm.weight",
    ("mlp", "gate"): "mlp.gate_proj.weight",
    ("mlp", "up"): "mlp.up_proj.weight",
    ("mlp", "down"): "mlp.down_proj.weight",
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor of the files, and which part of which parameter it is.

    The file's tensor has the same values in the same order as that part: only heads
    and their width are one axis there, as torch's linear maps have it.
    """

    name: str
    path: TreePath
    layer: int | None  # of a parameter that is stacked over layers
    shape: tuple[int, ...]  # of our part
    file_shape: tuple[int, ...]


def entries(architecture: Architecture, shapes: Params) -> Iterator[Entry]:
    """Every tensor of a model's files, layer by layer.

    Args:
      shapes: `Transformer.shapes`.
    """
    outside = {("embedding",): "model.embed_tokens.weight"}
    outside[("norm", "scale")] = "model.norm.weight"
    if not architecture.has_tied_head:
        outside[("head",)] = "lm_head.weight"
    for path, name in outside.items():
        shape = at(shapes, path).shape
        yield Entry(name, path, None, shape, shape)
    for layer in range(architecture.num_layers):
        for path, name in _LAYER.items():
            if not _has(architecture, path):
                continue
            path = ("blocks", *path)
            shape = at(shapes, path).shape[1:]
            name = f"model.layers.{layer}.{name}"
            yield Entry(name, path, layer, shape, _file_shape(path, shape))


def to_hf(
    params: Params, architecture: Architecture
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of every tensor of the files, one at a time."""
    for entry in entries(architecture, params):
        stack = at(params, entry.path)
        part = stack if entry.layer is None else stack[entry.layer]
        yield entry.name, np.asarray(part).reshape(entry.file_shape)


def at(tree: Any, path: TreePath) -> Any:
    """What stands there in a nested dict."""
    for key in path:
        tree = tree[key]
    return tree


def _has(architecture: Architecture, path: TreePath) -> bool:
    if path[1].endswith("_bias"):
        return architecture.has_qkv_bias
    if path[0] == "projections" and path[-1] == "scale":
        return architecture.has_qk_norm
    return True


def _file_shape(path: TreePath, shape: tuple[int, ...]) -> tuple[int, ...]:
    if path[1] != "projections" or path[-1] == "scale":
        return shape
    if path[-1] == "out":
        return (shape[0], shape[1] * shape[2])  # [D N H] -> [D N*H]
    return (shape[0] * shape[1], *shape[2:])  # [N H D] -> [N*H D]
