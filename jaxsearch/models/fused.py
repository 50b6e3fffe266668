"""A block as rollouts run it: weights that read the same input are one array.

Decoding multiplies few rows with much weight, which one wide product does better than
several narrow ones (two CPU cores, 32 rows, 8 layers of width 512, without attention:
16 ms, and 19 with a product for each weight). Training keeps the weights apart, as
checkpoints have them; the two are checked against each other by the tests of sampled
against trained log-probs.

Where devices share a copy, each holds one piece of every joined weight, and a piece
joins the same parts of what was joined: no device needs what another one holds.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.layers import rms_norm
from jaxsearch.models.rotary import rotate

Weights = dict[str, Array]


def joined(
    block: dict[str, Any], architecture: Architecture, tensor_parallel_size: int = 1
) -> Weights:
    """The weights of one layer of `Decoder`, joined.

    `groups` are [K (G + 2) H, D]: of each group its queries, its key and its value.
    `gate_up` is [2 F, D]: of each piece its gate, then its up. They are matrices,
    since XLA's CPU compiler transposes a weight of more axes at every step (the blocks
    of a step: 37 ms so, 15 like this).
    """
    heads, mlp, K = block["projections"], block["mlp"], architecture.num_kv_heads

    def groups(suffix: str) -> Array:
        query, key, value = (heads[n + suffix] for n in ("query", "key", "value"))
        query = query.reshape(K, -1, *query.shape[1:])
        return jnp.concatenate([query, key[:, None], value[:, None]], axis=1)

    D = architecture.width
    gate, up = (
        mlp[name].reshape(tensor_parallel_size, -1, D) for name in ("gate", "up")
    )
    weights = {
        "attention_scale": block["attention_norm"]["scale"],
        "groups": groups("").reshape(-1, D),
        "out": heads["out"],
        "mlp_scale": block["mlp_norm"]["scale"],
        "gate_up": jnp.concatenate([gate, up], axis=1).reshape(-1, D),
        "down": mlp["down"],
    }
    if architecture.has_qkv_bias:
        weights["group_biases"] = groups("_bias").reshape(-1)
    if architecture.has_qk_norm:
        weights["query_scale"] = heads["query_norm"]["scale"]
        weights["key_scale"] = heads["key_norm"]["scale"]
    return weights


def joined_axes(architecture: Architecture) -> dict[str, tuple[str, ...]]:
    """For each weight of `joined`, the logical name of each of its axes."""
    axes = {
        "attention_scale": ("embed",),
        "groups": ("kv_heads", "embed"),
        "out": ("embed", "heads", "head"),
        "mlp_scale": ("embed",),
        "gate_up": ("mlp", "embed"),
        "down": ("embed", "mlp"),
    }
    if architecture.has_qkv_bias:
        axes["group_biases"] = ("kv_heads",)
    if architecture.has_qk_norm:
        axes |= {"query_scale": ("head",), "key_scale": ("head",)}
    return axes


def joined_block(
    architecture: Architecture,
    weights: Weights,
    x: Float[Array, "B T D"],
    angles: tuple[Array, Array],
    attention: Callable[[Array, Array, Array], Array],
    tensor_parallel_size: int = 1,
) -> Float[Array, "B T D"]:
    """What `Block` computes: attention and MLP, each behind a norm and added."""
    eps, B, T = architecture.norm_eps, *x.shape[:2]
    N, K, H = (
        architecture.num_heads,
        architecture.num_kv_heads,
        architecture.head_width,
    )
    read = rms_norm(x, weights["attention_scale"], eps)
    groups = jnp.einsum("BTD,ED->BTE", read, weights["groups"])
    if architecture.has_qkv_bias:
        groups += weights["group_biases"][None, None]
    groups = groups.reshape(B, T, K, -1, H)
    query = groups[:, :, :, :-2].reshape(B, T, N, H)
    key, value = groups[:, :, :, -2], groups[:, :, :, -1]
    if architecture.has_qk_norm:
        query = rms_norm(query, weights["query_scale"], eps)
        key = rms_norm(key, weights["key_scale"], eps)
    heads = attention(rotate(query, *angles), rotate(key, *angles), value)
    x = x + jnp.einsum("BTNH,DNH->BTD", heads, weights["out"])
    read = rms_norm(x, weights["mlp_scale"], eps)
    wide = jnp.einsum("BTD,ED->BTE", read, weights["gate_up"])
    gate, up = jnp.split(wide.reshape(B, T, tensor_parallel_size, -1), 2, axis=-1)
    wide = (jax.nn.silu(gate) * up).reshape(B, T, -1)
    return x + jnp.einsum("BTF,DF->BTD", wide, weights["down"])
