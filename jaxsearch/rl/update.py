"""One update: gradients summed over microbatches, divided once, applied."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxsearch.announce import Announce, silently
from jaxsearch.id_ranges import IdRanges
from jaxsearch.metrics import Max, Mean
from jaxsearch.rl.batching import TrainBatch
from jaxsearch.rl.gradient import Forward, Gradient, Params
from jaxsearch.rl.head_sharding import HeadSharding
from jaxsearch.rl.objectives import Objective

Metrics = dict[str, Any]  # name -> Mean, Max or scalar, on the device


class TrainState(NamedTuple):
    """The training state that is carried from one update to the next.

    Attributes:
      params: the trained parameters only.
      reference: `params` at the start of the stage, for KL; {} if KL is not computed.
      num_updates: updates applied in this stage.
      num_skipped: consecutive updates skipped because they were not finite.
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
    """The state at the start of a stage, with a new optimizer state and reference.

    Everything is on the devices of the parameters. `params` are not copied: the first
    update donates them, and reading them afterwards is an error.
    """
    state = initial_state(params, optimizer, needs_reference=needs_reference)
    return _on_devices_of(params, state)


def initial_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    *,
    needs_reference: bool,
) -> TrainState:
    """The state before the first update; new arrays are on JAX's default device."""
    return TrainState(
        params=params,
        opt_state=optimizer.init(params),
        reference=jax.tree.map(jnp.copy, params) if needs_reference else {},
        num_updates=jnp.int32(0),
        num_skipped=jnp.int32(0),
    )


def _on_devices_of(params: Params, tree: Any) -> Any:
    """`tree` with its uncommitted arrays replicated over the devices of `params`.

    Optimizer arrays in the shape of a parameter are already sharded like it. If a
    counter stayed on one device, the first update would move it, and the second one
    would be compiled again.
    """
    first = jax.tree.leaves(params)[0]
    if not first.committed:
        return tree
    sharding = first.sharding
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, PartitionSpec())
    return jax.tree.map(
        lambda x: x if x.committed else jax.device_put(x, sharding), tree
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Updater:
    """Sums gradients over microbatches and applies the optimizer.

    The compiled step belongs to one Updater, so use the same one for a whole stage.

    Attributes:
      forward, head, objective, temperature, head_sharding, id_ranges: as in `Gradient`.
      frozen: parameters of the network that are not trained.
      announce: receives what is compiled.
    """

    forward: Forward
    head: Callable[[Params], Float[Array, "V D"]]
    objective: Objective
    optimizer: optax.GradientTransformation
    temperature: float = 1.0
    head_sharding: HeadSharding | None = None
    id_ranges: IdRanges | None = None
    frozen: Params = dataclasses.field(default_factory=dict)
    announce: Announce = silently

    @functools.cached_property
    def gradient(self) -> Gradient:
        return Gradient(
            forward=self.forward,
            head=self.head,
            objective=self.objective,
            temperature=self.temperature,
            head_sharding=self.head_sharding,
            id_ranges=self.id_ranges,
        )

    @functools.cached_property
    def _announced(self) -> set[str]:
        """Titles of the programs that have been announced."""
        return set()

    def __post_init__(self):
        _ = self.gradient  # checks the fields now

    def logprobs_of(self, params: Params, batch: TrainBatch) -> Float[Array, "M T"]:
        """Log-probs under `frozen | params` of the tokens that count."""
        with self._compiling(f"the log-probs of {_rows(batch)}"):
            return self.gradient.logprobs_of(self.frozen, params, batch)

    def _compiling(self, title: str) -> contextlib.AbstractContextManager[Any]:
        """Announces a program at its first call, which compiles it."""
        if title in self._announced:
            return contextlib.nullcontext()
        self._announced.add(title)
        return self.announce(title, 1)

    def update(
        self,
        state: TrainState,
        microbatches: Iterable[TrainBatch],
        divisor: float | None = None,
        *,
        is_applied: bool = True,
    ) -> tuple[TrainState, dict[str, Mean | Max | Array]]:
        """One optimizer step on the weighted sum of all tokens' losses / divisor.

        An update whose gradient is not finite is skipped and counted. If no token
        counts, the gradient is 0 / 0. The metric `skipped` is the number of consecutive
        skipped updates, this one included.

        Args:
          state: donated.
          divisor: None for the sum of the weights, so that the loss is a mean.
          is_applied: if False, the update is only measured: parameters, the optimizer
            and its schedule stay as they are.

        Returns:
          The new state and the metrics, which may be read at any time.

        Raises:
          ValueError: if there is no microbatch.
        """
        sums, metrics = self.gradient_sums(state, microbatches)
        if divisor is not None:
            divisor = jnp.full_like(metrics["loss"].weight, divisor)
            metrics["loss"] = Mean(metrics["loss"].total, divisor)
        with self._compiling("the optimizer"):
            norm, state = apply_optimizer(
                self.optimizer, state, sums, metrics["loss"].weight, is_applied
            )
        # A copy: the state, and its counter with it, is donated to the next update.
        skipped = jnp.copy(state.num_skipped)
        return state, {**metrics, "grad_norm": norm, "skipped": skipped}

    def gradient_sums(
        self, state: TrainState, microbatches: Iterable[TrainBatch]
    ) -> tuple[Params, dict[str, Mean | Max]]:
        """Gradients of the summed (not yet divided) loss, and the merged metrics.

        The gradient of the mean loss is this sum divided by `metrics["loss"].weight`.
        Sums are accumulated in at least float32.

        Raises:
          ValueError: if there is no microbatch.
        """
        # Starting from zeros, so that the first microbatch runs the same program as the
        # others.
        sums = jax.tree.map(_zeros, state.params)
        metrics = None
        for batch in microbatches:
            with self._compiling(f"the update for {_rows(batch)}"):
                sums, found = self.gradient.accumulate(
                    self.frozen, state.params, state.reference, sums, batch
                )
            metrics = found if metrics is None else merge_metrics(metrics, found)
        if metrics is None:
            raise ValueError("an update needs at least one microbatch, got none")
        return sums, metrics


# Not a method: jit keeps what is static, which would be the frozen parameters too.
@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def apply_optimizer(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    sums: Params,
    weight: Array,
    is_applied: ArrayLike,
) -> tuple[Array, TrainState]:
    """The norm of the gradient `sums / weight`, and the state after the update."""
    grads = jax.tree.map(
        lambda total, param: (total / weight).astype(param.dtype),
        sums,
        state.params,
    )
    norm = optax.tree.norm(grads)
    is_finite = jnp.isfinite(norm)
    is_taken = is_finite & is_applied
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(is_taken, new, old),
        (params, opt_state),
        (state.params, state.opt_state),
    )
    return norm, state._replace(
        params=params,
        opt_state=opt_state,
        num_updates=jnp.where(is_taken, state.num_updates + 1, state.num_updates),
        num_skipped=jnp.where(is_finite, 0, state.num_skipped + 1),
    )


def _rows(batch: TrainBatch) -> str:
    return f"rows of {batch.tokens.shape[1]} tokens"


def _zeros(param: Array) -> Array:
    return jnp.zeros_like(param, dtype=jnp.promote_types(param.dtype, jnp.float32))


@jax.jit
def merge_metrics(
    first: dict[str, Mean | Max], second: dict[str, Mean | Max]
) -> dict[str, Mean | Max]:
    """Metrics over the tokens of both arguments, computed on the device."""
    return {
        name: Max(jnp.maximum(metric.value, second[name].value))
        if isinstance(metric, Max)
        else Mean.merged(metric, second[name])
        for name, metric in first.items()
    }
