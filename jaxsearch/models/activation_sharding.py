"""Shardings of the activations and gathered weights of a training step."""

import dataclasses
import functools
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationSharding:
    """Constraints for rows and weights that are sharded over a mesh.

    Without them XLA may gather all rows in place of a weight, or sum the whole gradient
    of a weight on every device.

    Attributes:
      rules: logical axis of a weight and the mesh axis it is sharded over, or None.
      row_axes: mesh axes that rows are sharded over.
    """

    mesh: Mesh
    rules: tuple[tuple[str, str | None], ...]
    row_axes: tuple[str, ...]

    def by_rows(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """The states, with whole rows on every device."""
        return self._constrained(x, PartitionSpec(self.row_axes))

    def gathered(self, weights: Any, axes: Any) -> Any:
        """Weights, gathered over the axes of rows for the products of a layer.

        Their gradients are summed directly into the shards that the devices keep.

        Args:
          axes: for each weight the logical names of its axes.
        """

        def one(weight: Array, names: tuple[str, ...]) -> Array:
            kept = self._spec(names)
            read = PartitionSpec(*(x if x not in self.row_axes else None for x in kept))
            if read == kept:
                return weight
            shardings = NamedSharding(self.mesh, kept), NamedSharding(self.mesh, read)
            # Gathered weights are not kept for the backward pass: together they are the
            # whole model.
            return _gather(weight, *shardings)

        return jax.tree.map(one, weights, axes)

    def embedded(
        self, embedding: Float[Array, "V D"], tokens: Int[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Embedded tokens, without gathering the embedding.

        Every device looks up its part of the width for the rows of all devices that
        share the embedding, and the devices exchange the results. So the states of rows
        are moved, and not the embedding, which is as large as 150,000 tokens.
        """
        vocab, width = self._spec(("vocab", "embed"))
        others = tuple(axis for axis in self.row_axes if axis != width)
        tokens = self._constrained(tokens, PartitionSpec(others))
        embedding = self._constrained(embedding, PartitionSpec(vocab, width))
        x = self._constrained(embedding[tokens], PartitionSpec(others, None, width))
        return self.by_rows(x)

    def _spec(self, axes: tuple[str, ...]) -> PartitionSpec:
        rules = dict(self.rules)
        return PartitionSpec(*(rules[axis] for axis in axes))

    def _constrained(self, x: Array, spec: PartitionSpec) -> Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(weight: Array, kept: NamedSharding, read: NamedSharding) -> Array:
    weight = jax.lax.with_sharding_constraint(weight, kept)
    return jax.lax.with_sharding_constraint(weight, read)


def _gather_forward(weight, kept, read):
    return _gather(weight, kept, read), None


def _gather_backward(kept, read, _, grad):
    # JAX constrains the gradient of a constraint likewise, which would first sum all
    # of it on every device.
    return (jax.lax.with_sharding_constraint(grad, kept),)


_gather.defvjp(_gather_forward, _gather_backward)
