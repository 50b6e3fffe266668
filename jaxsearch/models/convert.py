"""Converts parameters to and from the names and layouts of Hugging Face files."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.families.family import TreePath
from jaxsearch.models.families.table import family_of
from jaxsearch.models.transformer import Params


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor of a Hugging Face file, and the part of a parameter that it holds.

    Both have the same values in the same order. In the file, heads and head width are
    one axis, as in torch's linear layers.
    """

    name: str
    path: TreePath
    layer: int | None  # for a parameter that is stacked over layers
    shape: tuple[int, ...]  # of our part
    file_shape: tuple[int, ...]


def entries(architecture: Architecture, shapes: Params) -> Iterator[Entry]:
    """Yields every tensor of a model's files, layer by layer.

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
    names = family_of(architecture).layer_names
    names = {path: name for path, name in names.items() if _has(shapes, path)}
    for layer in range(architecture.num_layers):
        for path, name in names.items():
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
    """The value at a path of a nested dict."""
    for key in path:
        tree = tree[key]
    return tree


def _has(shapes: Params, path: TreePath) -> bool:
    """Whether the blocks have a parameter."""
    tree = shapes["blocks"]
    for key in path:
        if key not in tree:
            return False
        tree = tree[key]
    return True


def _file_shape(path: TreePath, shape: tuple[int, ...]) -> tuple[int, ...]:
    if path[1] != "projections" or path[-1] == "scale":
        return shape
    if path[-1] == "out":
        return (shape[0], shape[1] * shape[2])  # [D N H] -> [D N*H]
    return (shape[0] * shape[1], *shape[2:])  # [N H D] -> [N*H D]
