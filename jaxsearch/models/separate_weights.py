"""Projections of a block with one array per weight and LoRA, for training."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from jaxsearch.models.adapters import low_rank

# Name of results that are saved for the backward pass, in addition to those of matrix
# products.
SAVED_NAME = "saved_for_backward"


@dataclasses.dataclass(frozen=True)
class SeparateWeights:
    """`BlockWeights` of parameters as they are trained and stored in checkpoints.

    Attributes:
      params: parameters of one block, without the layer axis.
      adapters: low-rank updates of some weights, scaled; {} without LoRA.
    """

    params: dict[str, Any]
    adapters: dict[str, Any]

    def qkv(self, x: Float[Array, "B T D"]) -> tuple[Array, Array, Array]:
        return (
            self._heads("BTD,NHD->BTNH", x, "query"),
            self._heads("BTD,KHD->BTKH", x, "key"),
            self._heads("BTD,KHD->BTKH", x, "value"),
        )

    def out(self, heads: Float[Array, "B T N H"]) -> Float[Array, "B T D"]:
        return self._linear("BTNH,DNH->BTD", heads, "projections", "out")

    def gate_up(self, x: Float[Array, "B T D"]) -> tuple[Array, Array]:
        return self._expand(x, "gate"), self._expand(x, "up")

    def down(self, hidden: Float[Array, "B T F"]) -> Float[Array, "B T D"]:
        return self._linear("BTF,DF->BTD", hidden, "mlp", "down")

    def _heads(self, product: str, x: Array, name: str) -> Array:
        y = self._linear(product, x, "projections", name)
        if (bias := self.params["projections"].get(f"{name}_bias")) is not None:
            y += bias.astype(x.dtype)[None, None]
        return y

    def _linear(self, product: str, x: Array, group: str, name: str) -> Array:
        y = jnp.einsum(product, x, self.params[group][name].astype(x.dtype))
        return self._adapted(y, x, group, name)

    def _expand(self, x: Array, name: str) -> Array:
        y = expand(x, self.params["mlp"][name].astype(x.dtype))
        return self._adapted(checkpoint_name(y, SAVED_NAME), x, "mlp", name)

    def _adapted(self, y: Array, x: Array, group: str, name: str) -> Array:
        """The weight's output, plus that of its low-rank update if it has one."""
        adapter = self.adapters.get(group, {}).get(name)
        return y if adapter is None else y + low_rank(x, adapter["a"], adapter["b"])


@jax.custom_vjp
def expand(x: Float[Array, "B T D"], weight: Float[Array, "F D"]) -> Array:
    """x W^T, for F larger than D.

    The backward pass computes the gradient of W as (x^T y')^T. For y'^T x, XLA's CPU
    compiler would transpose y', the larger factor, and recompute the derivative of
    SwiGLU, which is fused with it, in transposed order; that takes a fifth of an
    update's time.
    """
    return jnp.einsum("BTD,FD->BTF", x, weight)


def _expand_forward(x, weight):
    return expand(x, weight), (x, weight)


def _expand_backward(saved, grad_y):
    x, weight = saved
    grad_x = jnp.einsum("BTF,FD->BTD", grad_y, weight)
    transposed = jnp.einsum("BTD,BTF->DF", x, grad_y)
    # Without the barrier, XLA removes the transpose by swapping the factors.
    return grad_x, jax.lax.optimization_barrier(transposed).T


expand.defvjp(_expand_forward, _expand_backward)
