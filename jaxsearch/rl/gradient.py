"""The gradient of an objective, summed over one microbatch."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxsearch.id_ranges import IdRanges
from jaxsearch.metrics import Mean
from jaxsearch.rl.batching import TrainBatch
from jaxsearch.rl.head import policy_logprobs
from jaxsearch.rl.head_sharding import HeadSharding
from jaxsearch.rl.objectives import Objective

Params = Any  # pytree of arrays
# (frozen | params, tokens [M T], segments [M T]) -> hidden states [M T D]
Forward = Callable[
    [Params, Int[Array, "M T"], Int[Array, "M T"]], Float[Array, "M T D"]
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gradient:
    """The gradient of an objective, as a compiled program that equal instances share.

    Where parameters are sharded (`mesh.shardings`), put batches on the same mesh
    (`mesh.put_batch`).

    A network may have parameters that are not trained: `frozen` and `params` are then
    dicts with different keys, and no gradient of `frozen` is computed.

    Attributes:
      forward: maps whole rows to hidden states.
      head: returns the head [V D] of `frozen | params`.
      temperature: temperature of the sampler.
      head_sharding: sharding of rows and the head (`mesh.head_sharding`); None on one
        device. It also constrains hidden states. Otherwise, where parameters are
        sharded over the same devices, XLA may gather all rows on every device, with the
        same result but without the savings in memory and time.
      id_ranges: ids that have a token; others have probability 0 (`policy_logprobs`).
    """

    forward: Forward
    head: Callable[[Params], Float[Array, "V D"]]
    objective: Objective
    temperature: float = 1.0
    head_sharding: HeadSharding | None = None
    id_ranges: IdRanges | None = None

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(
                f"temperature must be positive to train at, got {self.temperature}"
            )

    def logprobs(
        self,
        frozen: Params,
        params: Params,
        tokens: Int[Array, "M T"],
        segments: Int[Array, "M T"],
        loss_mask: Bool[Array, "M T"],
    ) -> tuple[Float[Array, "M T"], Float[Array, "M T"]]:
        """Log-probs and entropies of the tokens that count; 0 at other positions."""
        params = frozen | params
        hidden = self.forward(params, tokens, segments)
        if self.head_sharding is not None:
            hidden = jax.lax.with_sharding_constraint(hidden, self.head_sharding.rows)
        temperature = jnp.float32(self.temperature)
        head = self.head(params)
        return policy_logprobs(
            hidden,
            head,
            tokens,
            loss_mask,
            temperature,
            self.head_sharding,
            self.id_ranges,
        )

    @functools.partial(jax.jit, static_argnums=0)
    def logprobs_of(
        self, frozen: Params, params: Params, batch: TrainBatch
    ) -> Float[Array, "M T"]:
        """Log-probs under `frozen | params` of the tokens that count."""
        rows = (batch.tokens, batch.segments, batch.loss_mask)
        return self.logprobs(frozen, params, *rows)[0]

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=4)
    def accumulate(
        self,
        frozen: Params,
        params: Params,
        reference_params: Params,
        sums: Params,
        batch: TrainBatch,
    ):
        """`sums` plus the gradient of the batch's summed loss, and the metrics."""
        rows = (batch.tokens, batch.segments, batch.loss_mask)
        reference = jnp.zeros(batch.tokens.shape, jnp.float32)
        if self.objective.needs_reference:
            reference, _ = self.logprobs(frozen, reference_params, *rows)
            # Forces one pass after the other; running both at once needs twice the
            # memory.
            reference, params = jax.lax.optimization_barrier((reference, params))

        def total_loss(params):
            logprobs, entropy = self.logprobs(frozen, params, *rows)
            losses, metrics = self.objective(logprobs, entropy, reference, batch)
            total = jnp.sum(losses * batch.weights, where=batch.loss_mask)
            weight = jnp.sum(batch.weights, where=batch.loss_mask)
            return total, {**metrics, "loss": Mean(total, weight)}

        grads, metrics = jax.grad(total_loss, has_aux=True)(params)
        sums = jax.tree.map(
            lambda total, grad: total + grad.astype(total.dtype), sums, grads
        )
        return sums, metrics
