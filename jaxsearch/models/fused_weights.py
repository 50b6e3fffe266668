"""Projections of a block with one array per input, for decoding.

Decoding multiplies few rows by large weights, where one wide product is faster than
several narrow ones. The fused arrays are made from the separate arrays used in
training; all other parameters are the same in both layouts.

Devices that share a copy of the policy each hold a contiguous piece of every fused
array. Rows are ordered so that each piece has the same structure as the whole array and
can be used without communication.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsearch.models.architecture import Architecture

# Parameters that a fused array replaces.
_QKV = tuple(n + suffix for n in ("query", "key", "value") for suffix in ("", "_bias"))
_GATE_UP = ("gate", "up")


def fuse(
    block: dict[str, Any], architecture: Architecture, tensor_parallel_size: int = 1
) -> dict[str, Any]:
    """The parameters of one block with fused projections.

    `fused_qkv` is [K (G + 2) H, D]: for each key/value head, its G query heads, its key
    and its value. `fused_gate_up` is [2 F, D]: for each device, its rows of the gate
    and then those of the up projection. Both are matrices because XLA's CPU compiler
    would transpose a weight with more axes at every step.
    """
    heads, mlp = block["projections"], block["mlp"]
    K, D = architecture.num_kv_heads, architecture.width

    def by_kv_head(suffix: str) -> Array:
        query, key, value = (heads[n + suffix] for n in ("query", "key", "value"))
        query = query.reshape(K, -1, *query.shape[1:])
        return jnp.concatenate([query, key[:, None], value[:, None]], axis=1)

    gate, up = (mlp[name].reshape(tensor_parallel_size, -1, D) for name in _GATE_UP)
    fused_gate_up = jnp.concatenate([gate, up], axis=1).reshape(-1, D)
    fused_heads = {"fused_qkv": by_kv_head("").reshape(-1, D)}
    if architecture.has_qkv_bias:
        fused_heads["fused_qkv_bias"] = by_kv_head("_bias").reshape(-1)
    return block | {
        "projections": _without(heads, _QKV) | fused_heads,
        "mlp": _without(mlp, _GATE_UP) | {"fused_gate_up": fused_gate_up},
    }


def fused_axes(block: dict[str, Any], architecture: Architecture) -> dict[str, Any]:
    """The logical axes of the result of `fuse`, given those of one block."""
    fused_heads = {"fused_qkv": ("kv_heads", "embed")}
    if architecture.has_qkv_bias:
        fused_heads["fused_qkv_bias"] = ("kv_heads",)
    return block | {
        "projections": _without(block["projections"], _QKV) | fused_heads,
        "mlp": _without(block["mlp"], _GATE_UP) | {"fused_gate_up": ("mlp", "embed")},
    }


@dataclasses.dataclass(frozen=True)
class FusedWeights:
    """`BlockWeights` for the result of `fuse`, already in the dtype of activations."""

    params: dict[str, Any]
    architecture: Architecture
    tensor_parallel_size: int = 1

    def qkv(self, x: Float[Array, "B T D"]) -> tuple[Array, Array, Array]:
        heads, (B, T, _) = self.params["projections"], x.shape
        N, K, H = (
            self.architecture.num_heads,
            self.architecture.num_kv_heads,
            self.architecture.head_width,
        )
        groups = jnp.einsum("BTD,ED->BTE", x, heads["fused_qkv"])
        if self.architecture.has_qkv_bias:
            groups += heads["fused_qkv_bias"][None, None]
        groups = groups.reshape(B, T, K, -1, H)
        query = groups[:, :, :, :-2].reshape(B, T, N, H)
        return query, groups[:, :, :, -2], groups[:, :, :, -1]

    def out(self, heads: Float[Array, "B T N H"]) -> Float[Array, "B T D"]:
        return jnp.einsum("BTNH,DNH->BTD", heads, self.params["projections"]["out"])

    def gate_up(self, x: Float[Array, "B T D"]) -> tuple[Array, Array]:
        B, T, _ = x.shape
        both = jnp.einsum("BTD,ED->BTE", x, self.params["mlp"]["fused_gate_up"])
        both = both.reshape(B, T, self.tensor_parallel_size, -1)
        gate, up = jnp.split(both, 2, axis=-1)
        return gate, up

    def down(self, hidden: Float[Array, "B T pieces E"]) -> Float[Array, "B T D"]:
        hidden = hidden.reshape(*hidden.shape[:2], -1)
        return jnp.einsum("BTF,DF->BTD", hidden, self.params["mlp"]["down"])


def _without(group: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in names}
