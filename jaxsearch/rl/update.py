"""One update: gradients summed over microbatches, divided once, applied."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxsearch.metrics import Max, Mean
from jaxsearch.rl.head import policy_logprobs
from jaxsearch.rl.objectives import Objective
from jaxsearch.trajectory import TrainBatch

Params = Any  # pytree of arrays
# (params, tokens [M T], lengths [M]) -> hidden states [M T D]
Forward = Callable[[Params, Int[Array, "M T"], Int[Array, " M"]], Float[Array, "M T D"]]


class TrainState(NamedTuple):
    """Everything of an update that outlives it.

    Attributes:
      reference: parameters that KL is measured against; {} where none is.
      num_updates: applied in this stage.
      num_skipped: non-finite updates in a row.
    """

    params: Params
    opt_state: Any
    reference: Params
    num_updates: Array
    num_skipped: Array


def begin_stage(
    params: Params,
    optimizer: optax.GradientTransformation,
    *,
    needs_reference: bool,
) -> TrainState:
    """A fresh optimizer; the reference is a copy of the parameters as they are."""
    return TrainState(
        params=params,
        opt_state=jax.jit(optimizer.init)(params),
        reference=jax.tree.map(jnp.copy, params) if needs_reference else {},
        num_updates=jnp.int32(0),
        num_skipped=jnp.int32(0),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Updater:
    """Gradient, sum and step as compiled programs.

    Attributes:
      forward: whole rows to hidden states.
      head: params -> [V D].
    """

    forward: Forward
    head: Callable[[Params], Float[Array, "V D"]]
    objective: Objective
    optimizer: optax.GradientTransformation
    temperature: float = 1.0

    def logprobs(
        self,
        params: Params,
        tokens: Int[Array, "M T"],
        lengths: Int[Array, " M"],
        is_policy: Bool[Array, "M T"],
    ) -> tuple[Float[Array, "M T"], Float[Array, "M T"]]:
        """Log-probs and entropies of the tokens that count; 0 elsewhere."""
        hidden = self.forward(params, tokens, lengths)
        temperature = jnp.float32(self.temperature)
        return policy_logprobs(
            hidden, self.head(params), tokens, is_policy, temperature
        )

    @functools.partial(jax.jit, static_argnums=0)
    def logprobs_of(self, params: Params, batch: TrainBatch) -> Float[Array, "M T"]:
        """Log-probs of the batch's policy tokens under `params`."""
        return self.logprobs(params, batch.tokens, batch.lengths, batch.is_policy)[0]

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
    def _accumulate(self, state: TrainState, sums, batch: TrainBatch):
        reference = jnp.zeros(batch.tokens.shape, jnp.float32)
        if self.objective.needs_reference:
            reference, _ = self.logprobs(
                state.reference, batch.tokens, batch.lengths, batch.is_policy
            )

        def total_loss(params):
            logprobs, entropy = self.logprobs(
                params, batch.tokens, batch.lengths, batch.is_policy
            )
            losses, metrics = self.objective(logprobs, entropy, reference, batch)
            weight = jnp.sum(batch.is_policy, dtype=jnp.float32)
            return jnp.sum(losses), {**metrics, "loss": Mean(jnp.sum(losses), weight)}

        grads, metrics = jax.grad(total_loss, has_aux=True)(state.params)
        if sums is None:
            return grads, metrics
        return (
            jax.tree.map(jnp.add, sums[0], grads),
            {name: _joined(sums[1][name], part) for name, part in metrics.items()},
        )

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _apply(self, state: TrainState, grads: Params, weight: Array):
        grads = jax.tree.map(lambda grad: grad / weight, grads)
        norm = optax.global_norm(grads)
        is_finite = jnp.isfinite(norm)
        updates, opt_state = self.optimizer.update(
            grads, state.opt_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(is_finite, new, old),
            (params, opt_state),
            (state.params, state.opt_state),
        )
        return norm, state._replace(
            params=params,
            opt_state=opt_state,
            num_updates=state.num_updates + is_finite,
            num_skipped=jnp.where(is_finite, 0, state.num_skipped + 1),
        )

    def update(
        self, state: TrainState, microbatches: Iterable[TrainBatch]
    ) -> tuple[TrainState, dict[str, Mean | Max]]:
        """One optimizer step on the token mean over all microbatches.

        A gradient that is not finite changes nothing and is counted in
        `num_skipped`. The state given is donated.

        Errors: ValueError if there is no microbatch.
        """
        sums = None
        for batch in microbatches:
            sums = self._accumulate(state, sums, batch)
        if sums is None:
            raise ValueError("an update needs at least one microbatch, got none")
        grads, metrics = sums
        norm, state = self._apply(state, grads, metrics["loss"].weight)
        return state, {**metrics, "grad_norm": norm, "skipped": state.num_skipped}


def _joined(first: Mean | Max, second: Mean | Max) -> Mean | Max:
    if isinstance(first, Max):
        return Max(jnp.maximum(first.value, second.value))
    return Mean.joined(first, second)
