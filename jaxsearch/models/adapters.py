"""Low-rank updates (LoRA), trained in place of the linear maps that they modify.

Source: Hu et al. 2021, LoRA (arXiv:2106.09685), section 4.1: y = x W^T + (alpha / r)
(x A^T) B^T. B starts at 0. A is uniform as in Hugging Face's PEFT; in the paper it is
normal.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsearch.models.expand import expand
from jaxsearch.models.lora import MAPS, LinearMap, LoRAConfig, Maps

Tree = dict[str, Any]  # nested dict
Adapter = dict[str, Array]  # "a" [R *I], "b" [*O R]; of all layers [L R *I], [L *O R]

ADAPTERS = "adapters"  # key of the adapters among the parameters of a network


def adapter_shapes(maps: Maps, rank: int, blocks: Tree) -> Tree:
    """Shapes of A [L R *I] and B [L *O R] for some maps, given the blocks' shapes."""

    def shapes(one: LinearMap) -> dict[str, jax.ShapeDtypeStruct]:
        layers, outputs, inputs = _axes(one, _at(blocks, one).shape)
        a, b = (layers, rank, *inputs), (layers, *outputs, rank)
        return {
            "a": jax.ShapeDtypeStruct(a, jnp.float32),
            "b": jax.ShapeDtypeStruct(b, jnp.float32),
        }

    return _for_each(maps, shapes)


def adapter_axes(maps: Maps, blocks: Tree) -> Tree:
    """The logical axes of the adapters, derived from those of the blocks."""

    def names(one: LinearMap) -> dict[str, tuple[str, ...]]:
        layers, outputs, inputs = _axes(one, _at(blocks, one))
        return {"a": (layers, "rank", *inputs), "b": (layers, *outputs, "rank")}

    return _for_each(maps, names)


def init_adapters(maps: Maps, shapes: Tree, key: Array) -> Tree:
    """Random A, uniform within 1 / sqrt(inputs) as in PEFT, and B = 0.

    The values of a map do not depend on which other maps are selected.
    """

    def init(one: LinearMap) -> Adapter:
        a, b = (_at(shapes[ADAPTERS], one)[name] for name in "ab")
        bound = math.prod(a.shape[2:]) ** -0.5
        own = jax.random.fold_in(key, MAPS.index(one))
        return {
            "a": jax.random.uniform(own, a.shape, a.dtype, -bound, bound),
            "b": jnp.zeros(b.shape, b.dtype),
        }

    return _for_each(maps, init)


def split(lora: LoRAConfig, tree: Tree) -> tuple[Tree, Tree]:
    """Splits a tree over a network's parameters into its frozen and trained parts.

    `frozen | trained` gives the tree back. Without LoRA everything is trained.
    """
    if not lora.rank:
        return {}, tree
    frozen = {key: value for key, value in tree.items() if key != ADAPTERS}
    return frozen, {ADAPTERS: tree[ADAPTERS]}


def scaled_adapters(lora: LoRAConfig, params: Tree) -> Tree:
    """A and (alpha / rank) B of every map; {} without LoRA."""
    if not lora.rank:
        return {}
    return {
        group: {name: {**one, "b": one["b"] * lora.scale} for name, one in maps.items()}
        for group, maps in params[ADAPTERS].items()
    }


def low_rank(
    x: Float[Array, "B T *I"], a: Float[Array, " R *I"], b: Float[Array, "*O R"]
) -> Float[Array, "B T *O"]:
    """(x A^T) B^T in the dtype of x, which is added to the output of a map."""
    inputs = tuple(range(1 - a.ndim, 0))
    narrow = jnp.tensordot(x, a.astype(x.dtype), (inputs, inputs))
    return expand(narrow, b.astype(x.dtype))


def adapted(y: Array, x: Array, adapters: Tree, group: str, name: str) -> Array:
    """The output y of a map for x, plus that of its low-rank update if it has one."""
    one = adapters.get(group, {}).get(name)
    return y if one is None else y + low_rank(x, one["a"], one["b"]).reshape(y.shape)


def merged(lora: LoRAConfig, params: Tree) -> Tree:
    """The parameters with adapters merged into the weights: W + (alpha / rank) B A.

    The product is computed in full float32 precision on every device.
    """

    def sum_of(weight: Array, one: Adapter) -> Array:
        product = functools.partial(jnp.tensordot, axes=1, precision="highest")
        return weight + jax.vmap(product)(one["b"], one["a"])

    adapters = scaled_adapters(lora, params)
    weights = {key: value for key, value in params.items() if key != ADAPTERS}
    blocks = weights["blocks"]
    return weights | {
        "blocks": blocks
        | {
            group: blocks[group]
            | {name: sum_of(blocks[group][name], one) for name, one in maps.items()}
            for group, maps in adapters.items()
        }
    }


def _axes(one: LinearMap, axes: tuple) -> tuple[Any, tuple, tuple]:
    """The axes of a stacked weight, split into layers, outputs and inputs."""
    end = 1 + one.num_outputs
    return axes[0], axes[1:end], axes[end:]


def _at(tree: Tree, one: LinearMap) -> Any:
    group, name = one.path
    return tree[group][name]


def _for_each(maps: Maps, make: Callable[[LinearMap], Any]) -> Tree:
    """{"adapters": {group: {name: make(map)}}}; {} without maps."""
    tree: Tree = {}
    for one in maps:
        group, name = one.path
        tree.setdefault(group, {})[name] = make(one)
    return {ADAPTERS: tree} if tree else {}
