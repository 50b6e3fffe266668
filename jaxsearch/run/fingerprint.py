"""A short name for the exact values of some parameters."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32


def fingerprint(params: Any) -> str:
    """16 hex digits that any changed bit of any parameter changes; "" of none.

    Computed where the parameters lie, in integers, so that it does not depend on how
    they are spread over devices: one reading of the memory, and four bytes of each
    array to the host.
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
    """Sum mod 2^32 over a float array of a hash of each number's bits and place."""
    place = jnp.zeros(array.shape, jnp.uint32)
    for axis, size in enumerate(array.shape):
        here = jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
        place = place * jnp.uint32(size % 2**32) + here
    bits = jax.lax.bitcast_convert_type(array.astype(jnp.float32), jnp.uint32)
    # Mixed before they are summed: an even number of flipped signs would vanish.
    # The constants are those of MurmurHash3's last step, which loses nothing.
    mixed = bits ^ (place * jnp.uint32(0x9E3779B1))
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)
