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

    Without them XLA may gather all rows instead of a weight, or sum the whole gradient
    of a weight on every device.

    Attributes:
      rules: pairs of a weight's logical axis and the mesh axis it is sharded over, or
        None.
      row_axes: mesh axes that rows are sharded over.
    """

    mesh: Mesh
    rules: tuple[tuple[str, str | None], ...]
    row_axes: tuple[str, ...]

    def by_rows(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Shards the hidden states by rows only; no row is split between devices."""
        return self._constrained(x, PartitionSpec(self.row_axes))

    def gathered(self, weights: Any, axes: Any) -> Any:
        """The weights of a layer, gathered over the row axes for its matrix products.

        Their gradients are summed directly into the shards that the devices keep.

        Args:
          axes: the logical axis names of each weight.
        """

        def one(weight: Array, names: tuple[str, ...]) -> Array:
            kept = self._spec(names)
            read = PartitionSpec(*(x if x not in self.row_axes else None for x in kept))
            if read == kept:
                return weight
            shardings = NamedSharding(self.mesh, kept), NamedSharding(self.mesh, read)
            # Gathered weights are not kept for the backward pass: over all layers they
            # add up to the whole model.
            return _gather(weight, *shardings)

        return jax.tree.map(one, weights, axes)

    def embedded(
        self, embedding: Float[Array, "V D"], tokens: Int[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Embedded tokens, without gathering the embedding.

        Every device looks up its slice of the width for the rows of all devices that
        share the embedding, and the devices exchange the results. This moves hidden
        states instead of the embedding, which is as large as the states of 150,000
        tokens.
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
    # By default JAX applies the same constraint to the gradient, which would first sum
    # the whole gradient on every device.
    return (jax.lax.with_sharding_constraint(grad, kept),)


_gather.defvjp(_gather_forward, _gather_backward)
