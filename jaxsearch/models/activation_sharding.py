"""How a training step's values lie on a mesh of devices."""

import dataclasses
import functools
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationSharding:
    """Rows are cut over some mesh axes, and weights over the same ones and others.

    Said of every value that matters, because XLA has a choice else: it may gather all
    rows in place of a weight, or sum a weight's gradient whole on every device.

    Attributes:
      rules: logical axis of a weight and the mesh axis it is cut over, or None.
      row_axes: mesh axes that rows are cut over.
    """

    mesh: Mesh
    rules: tuple[tuple[str, str | None], ...]
    row_axes: tuple[str, ...]

    def by_rows(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Every device has its own rows, whole."""
        return self._held(x, PartitionSpec(self.row_axes))

    def gathered(self, weights: Any, axes: Any) -> Any:
        """Weights as the products of a device's rows read them.

        They are gathered over the axes of rows, and their gradients summed straight
        into the parts that the devices keep.

        Args:
          axes: for each weight the logical names of its axes.
        """

        def one(weight: Array, names: tuple[str, ...]) -> Array:
            kept = self._spec(names)
            read = PartitionSpec(*(x if x not in self.row_axes else None for x in kept))
            if read == kept:
                return weight
            shardings = NamedSharding(self.mesh, kept), NamedSharding(self.mesh, read)
            # Not among what a backward pass keeps: all of it is the whole model.
            return _gather(weight, *shardings)

        return jax.tree.map(one, weights, axes)

    def embedded(
        self, embedding: Float[Array, "V D"], tokens: Int[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Rows of the embedding, without gathering it.

        Every device looks up its part of the width for all rows that share the
        embedding's parts, and they exchange: a row's states are moved, and not the
        embedding, which is as large as 150,000 tokens.
        """
        vocab, width = self._spec(("vocab", "embed"))
        others = tuple(axis for axis in self.row_axes if axis != width)
        tokens = self._held(tokens, PartitionSpec(others))
        embedding = self._held(embedding, PartitionSpec(vocab, width))
        x = self._held(embedding[tokens], PartitionSpec(others, None, width))
        return self.by_rows(x)

    def _spec(self, axes: tuple[str, ...]) -> PartitionSpec:
        rules = dict(self.rules)
        return PartitionSpec(*(rules[axis] for axis in axes))

    def _held(self, x: Array, spec: PartitionSpec) -> Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(weight: Array, kept: NamedSharding, read: NamedSharding) -> Array:
    weight = jax.lax.with_sharding_constraint(weight, kept)
    return jax.lax.with_sharding_constraint(weight, read)


def _gather_forward(weight, kept, read):
    return _gather(weight, kept, read), None


def _gather_backward(kept, read, _, grad):
    # The gradient of a constraint is held to the same one, which would sum all of it
    # on every device first.
    return (jax.lax.with_sharding_constraint(grad, kept),)


_gather.defvjp(_gather_forward, _gather_backward)
