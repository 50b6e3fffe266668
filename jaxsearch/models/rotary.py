"""Rotary position embeddings."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

from jaxsearch.models.architecture import Architecture


def rotary_frequencies(architecture: Architecture) -> Float32[np.ndarray, " W"]:
    """Radians per position for each pair of dimensions, W = head_width / 2.

    Computed in float64 and rounded once, because at position 100,000 an error in the
    last bit rotates a pair by 0.01 radians.

    Sources: Su et al. 2021 (arXiv:2104.09864); for the scaling see `RopeScaling`.
    """
    H, theta = architecture.head_width, architecture.rope_theta
    plain = theta ** -(np.arange(0, H, 2) / H)
    scaling = architecture.rope_scaling
    if scaling is None:
        return plain.astype(np.float32)
    wavelengths = 2 * np.pi / plain
    # 0 for the longest wavelengths, which are scaled; 1 for the shortest, which are
    # not.
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    share = np.clip((scaling.original_len / wavelengths - low) / (high - low), 0, 1)
    frequencies = (1 - share) * plain / scaling.factor + share * plain
    return frequencies.astype(np.float32)


class LayerAngles(NamedTuple):
    """Rotary angles of a network whose local layers may have a different base.

    Attributes:
      by_default: cosine and sine, as `rotary_angles` returns them.
      if_local: the same for layers with local attention; None if there are none.
    """

    by_default: tuple[Array, Array]
    if_local: tuple[Array, Array] | None

    def of_layer(self, is_local: bool | Bool[Array, ""] | None) -> tuple[Array, Array]:
        """The angles of one layer; `is_local` may be traced, as in a scan."""
        if self.if_local is None or is_local is None:
            return self.by_default
        if isinstance(is_local, bool):
            return self.if_local if is_local else self.by_default
        return jax.tree.map(
            lambda local, default: jnp.where(is_local, local, default),
            self.if_local,
            self.by_default,
        )


def layer_angles(
    architecture: Architecture, positions: Int[Array, "B T"]
) -> LayerAngles:
    """The rotary angles of every kind of layer in a network."""
    by_default = rotary_angles(positions, rotary_frequencies(architecture))
    if architecture.local_attention is None:
        return LayerAngles(by_default, None)
    local = dataclasses.replace(
        architecture,
        rope_theta=architecture.local_attention.rope_theta,
        rope_scaling=None,
    )
    return LayerAngles(by_default, rotary_angles(positions, rotary_frequencies(local)))


def rotary_angles(
    positions: Int[Array, "B T"], frequencies: Float32[np.ndarray, " W"]
) -> tuple[Float[Array, "B T 1 W"], Float[Array, "B T 1 W"]]:
    """Cosine and sine of the angle of each pair at each position."""
    angles = positions[..., None].astype(jnp.float32) * frequencies[None, None]
    return jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]


def rotate(
    x: Float[Array, "B T N H"],
    cos: Float[Array, "B T 1 W"],
    sin: Float[Array, "B T 1 W"],
) -> Float[Array, "B T N H"]:
    """Applies rotary position embeddings to the pairs (i, i + H/2).

    Source: Su et al. 2021 (arXiv:2104.09864), which has pairs (2i, 2i + 1). Ours are
    those of Llama and Qwen2 checkpoints.
    """
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
