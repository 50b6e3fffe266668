"""Fingerprints of parameters."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32


def fingerprint(params: Any) -> str:
    """16 hex digits that depend on every bit of every parameter; "" for no parameters.

    The sums are computed on the devices with integers, so that they do not depend on
    the sharding. This reads the parameters once and copies four bytes per array to the
    host.
    """
    sums = jax.device_get(jax.tree.map(_checksum, params))
    if not sums:
        return ""
    whole = hashlib.sha256()
    for (path, array), total in zip(
        jax.tree.leaves_with_path(params), jax.tree.leaves(sums), strict=True
    ):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        whole.update(f"{name} {array.shape} {int(total)}\n".encode())
    return whole.hexdigest()[:16]


@jax.jit
def _checksum(array: Array) -> UInt32[Array, ""]:
    """Hash of each number's bits and position, summed over the array modulo 2^32."""
    flat_index = jnp.zeros(array.shape, jnp.uint32)
    for axis, size in enumerate(array.shape):
        here = jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
        flat_index = flat_index * jnp.uint32(size % 2**32) + here
    bits = jax.lax.bitcast_convert_type(array.astype(jnp.float32), jnp.uint32)
    # Mixed before the sum, where an even number of flipped signs would cancel. The
    # constants are from MurmurHash3's finaliser, which is a bijection.
    mixed = bits ^ (flat_index * jnp.uint32(0x9E3779B1))
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)
