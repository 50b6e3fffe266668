"""Grouped-query attention."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Score of masked positions. It is finite so that a query with every position masked has
# a finite result.
HIDDEN = -1e30


def attend(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B K H S"],
    value: Float[Array, "B K S H"],
    is_visible: Bool[Array, "B T S"],
) -> Float[Array, "B T N H"]:
    """Softmax attention; scores and softmax are computed in float32.

    Query head n reads key/value head n // (N / K). A query with every position masked
    gets the mean of the values, which is finite and must not be used.
    """
    B, T, N, H = query.shape
    K = key.shape[1]
    G = N // K
    # Both products are batched products of matrices [G T, .]. With G and T as separate
    # axes, XLA's CPU compiler transposes the keys and values first, which made a
    # decoding step 2.7 times as long.
    query = query.reshape(B, T, K, G, H) * jnp.asarray(H**-0.5, query.dtype)
    query = query.transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, H)
    scores = jnp.einsum(
        "BKQH,BKHS->BKQS", query, key, preferred_element_type=jnp.float32
    )
    scores = scores.reshape(B, K, G, T, -1)
    scores = jnp.where(is_visible[:, None, None], scores, jnp.float32(HIDDEN))
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    out = jnp.einsum("BKQS,BKSH->BKQH", weights.reshape(B, K, G * T, -1), value)
    out = out.reshape(B, K, G, T, H).transpose(0, 3, 1, 2, 4)
    return out.reshape(B, T, N, H)
