"""The parts of a decoder block. A parameter knows the logical name of each axis."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from jaxsearch.models.adapters import Adapter, low_rank
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.rotary import rotate

Adapters = dict[str, Adapter]  # by the name of the weight that has an update

# Name of results that a backward pass may find again, beside those of plain products.
KEPT = "kept"


def normal(
    rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], std: float
) -> nnx.Param:
    """A float32 parameter drawn from N(0, std^2), with its logical axes."""
    return nnx.Param(
        std * jax.random.normal(rngs.params(), shape, jnp.float32), logical_axes=axes
    )


def constant(value: float, shape: tuple[int, ...], axes: tuple[str, ...]) -> nnx.Param:
    """A float32 parameter that starts as one value everywhere."""
    return nnx.Param(jnp.full(shape, value, jnp.float32), logical_axes=axes)


def linear(product: str, x: Array, weight: nnx.Param, adapter: Adapter | None) -> Array:
    """The product of x and a weight, and the weight's low-rank update if it has one."""
    y = jnp.einsum(product, x, weight[...].astype(x.dtype))
    return y if adapter is None else y + low_rank(x, adapter["a"], adapter["b"])


@jax.custom_vjp
def widened(x: Float[Array, "B T D"], weight: Float[Array, "F D"]) -> Array:
    """x W^T, for F larger than D.

    Its own backward pass, in which W's gradient is x^T y' and is turned: of y'^T x
    XLA's CPU compiler would turn y', the larger one (and compute SwiGLU's derivative,
    which it is fused with, again in that order: a fifth of an update's time).
    """
    return jnp.einsum("BTD,FD->BTF", x, weight)


def _widened_forward(x, weight):
    return widened(x, weight), (x, weight)


def _widened_backward(saved, of_y):
    x, weight = saved
    of_x = jnp.einsum("BTF,FD->BTD", of_y, weight)
    turned = jnp.einsum("BTD,BTF->DF", x, of_y)
    # Else the turn is undone by exchanging the factors.
    return of_x, jax.lax.optimization_barrier(turned).T


widened.defvjp(_widened_forward, _widened_backward)


class RMSNorm(nnx.Module):
    """`rms_norm` with its scale.

    Args:
      axis: logical name of the axis that is normalised, of size `width`.
    """

    def __init__(self, width: int, axis: str, eps: float):
        self.scale = constant(1.0, (width,), (axis,))
        self.eps = eps

    def __call__(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
        return rms_norm(x, self.scale[...], self.eps)


def rms_norm(
    x: Float[Array, "*rows D"], scale: Float[Array, " D"], eps: float
) -> Float[Array, "*rows D"]:
    """x / rms(x) * scale over the last axis, in float32."""
    wide = x.astype(jnp.float32)
    rms = jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + eps)
    scale = jnp.expand_dims(scale, tuple(range(x.ndim - 1)))
    return (wide * rms * scale).astype(x.dtype)


def stream_norm(architecture: Architecture) -> RMSNorm:
    """Of the residual stream."""
    return RMSNorm(architecture.width, "embed", architecture.norm_eps)


class Projections(nnx.Module):
    """Queries, keys and values of a block, and the way back to its width.

    Weights are stored [out, in]: as in Hugging Face files, and faster for the
    thin products of decoding.
    """

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
        D, H = architecture.width, architecture.head_width
        N, K = architecture.num_heads, architecture.num_kv_heads
        std = D**-0.5
        out_std = (N * H) ** -0.5 / (2 * architecture.num_layers)
        self.query = normal(rngs, (N, H, D), ("heads", "head", "embed"), std)
        self.key = normal(rngs, (K, H, D), ("kv_heads", "head", "embed"), std)
        self.value = normal(rngs, (K, H, D), ("kv_heads", "head", "embed"), std)
        self.out = normal(rngs, (D, N, H), ("embed", "heads", "head"), out_std)
        self.has_bias = architecture.has_qkv_bias
        if self.has_bias:
            self.query_bias = constant(0.0, (N, H), ("heads", "head"))
            self.key_bias = constant(0.0, (K, H), ("kv_heads", "head"))
            self.value_bias = constant(0.0, (K, H), ("kv_heads", "head"))
        self.has_norm = architecture.has_qk_norm
        if self.has_norm:
            self.query_norm = RMSNorm(H, "head", architecture.norm_eps)
            self.key_norm = RMSNorm(H, "head", architecture.norm_eps)

    def split(
        self,
        x: Float[Array, "B T D"],
        cos: Float[Array, "B T 1 W"],
        sin: Float[Array, "B T 1 W"],
        adapters: Adapters,
    ) -> tuple[
        Float[Array, "B T N H"], Float[Array, "B T K H"], Float[Array, "B T K H"]
    ]:
        """Rotated queries, rotated keys, values."""
        dtype = x.dtype
        query = linear("BTD,NHD->BTNH", x, self.query, adapters.get("query"))
        key = linear("BTD,KHD->BTKH", x, self.key, adapters.get("key"))
        value = linear("BTD,KHD->BTKH", x, self.value, adapters.get("value"))
        if self.has_bias:
            query += self.query_bias[...].astype(dtype)[None, None]
            key += self.key_bias[...].astype(dtype)[None, None]
            value += self.value_bias[...].astype(dtype)[None, None]
        if self.has_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        return rotate(query, cos, sin), rotate(key, cos, sin), value

    def join(
        self, heads: Float[Array, "B T N H"], adapters: Adapters
    ) -> Float[Array, "B T D"]:
        """The heads' outputs summed back into the residual stream."""
        return linear("BTNH,DNH->BTD", heads, self.out, adapters.get("out"))


class GatedMLP(nnx.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs):
        D, F = architecture.width, architecture.mlp_width
        down_std = F**-0.5 / (2 * architecture.num_layers)
        self.gate = normal(rngs, (F, D), ("mlp", "embed"), D**-0.5)
        self.up = normal(rngs, (F, D), ("mlp", "embed"), D**-0.5)
        self.down = normal(rngs, (D, F), ("embed", "mlp"), down_std)

    def __call__(
        self, x: Float[Array, "B T D"], adapters: Adapters
    ) -> Float[Array, "B T D"]:
        gate = self._wide(x, self.gate, adapters.get("gate"))
        up = self._wide(x, self.up, adapters.get("up"))
        wide = jax.nn.silu(gate) * up
        return linear("BTF,DF->BTD", wide, self.down, adapters.get("down"))

    @staticmethod
    def _wide(x: Array, weight: nnx.Param, adapter: Adapter | None) -> Array:
        y = checkpoint_name(widened(x, weight[...].astype(x.dtype)), KEPT)
        return y if adapter is None else y + low_rank(x, adapter["a"], adapter["b"])
