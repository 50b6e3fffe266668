"""Projections of a block with one array per weight and LoRA, for training."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from jaxsearch.models.adapters import adapted
from jaxsearch.models.expand import expand

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
        return adapted(y, x, self.adapters, group, name)

    def _expand(self, x: Array, name: str) -> Array:
        y = expand(x, self.params["mlp"][name].astype(x.dtype))
        y = checkpoint_name(y, SAVED_NAME)
        return adapted(y, x, self.adapters, "mlp", name)
