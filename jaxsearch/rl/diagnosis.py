"""Finds the quantities of an update that are not finite."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jaxsearch.metrics import Max, Mean
from jaxsearch.rl.batching import TrainBatch
from jaxsearch.rl.gradient import Gradient
from jaxsearch.rl.objectives import ImitationObjective
from jaxsearch.rl.update import Params, TrainState, Updater

# Inputs of a batch that the objective reads for tokens that count in the loss.
_INPUTS = (
    *("behavior_logprobs", "sampling_logprobs", "old_logprobs", "advantages"),
    "weights",
)


class Quantity(NamedTuple):
    """Counts of values of a quantity that are not finite.

    Attributes:
      name: for example "gradient of embedding".
      num_values: number of values; for tokens, only those that count in the loss.
      num_nan: number of NaN values.
      num_infinite: number of infinite values.
      largest: largest magnitude of the finite values; 0 without any.
      first: microbatch, row and position of the first token that is not finite; None
        if all are finite, or for a quantity without tokens.
    """

    name: str
    num_values: int
    num_nan: int
    num_infinite: int
    largest: float
    first: tuple[int, int, int] | None = None

    @property
    def is_finite(self) -> bool:
        return self.num_nan == self.num_infinite == 0


def update_quantities(
    updater: Updater,
    params: Params,
    reference: Params,
    batches: Sequence[TrainBatch],
    divisor: float | None,
) -> list[Quantity]:
    """The quantities of an update, in the order in which they are computed.

    Args:
      updater: the update of the stage.
      params: the trained parameters before the update.
      reference: parameters of the reference; {} if KL is not computed.
      batches: the microbatches of the update.
      divisor: divisor of the summed loss; None for the sum of the weights.
    """
    inputs = [name for name in _INPUTS if _is_read(updater.gradient, name)]
    found = _of_parameters("parameters", params)
    for name in inputs:
        arrays = [batch._asdict()[name] for batch in batches]
        found.append(_of_tokens(name.replace("_", " "), arrays, batches))
    computed = [
        _computed(updater.gradient, updater.frozen, params, reference, batch)
        for batch in batches
    ]
    for name in computed[0][0]:
        arrays = [tokens[name] for tokens, _ in computed]
        found.append(_of_tokens(name, arrays, batches))
    for name in computed[0][1]:
        terms = jnp.stack([terms[name] for _, terms in computed])
        found.append(_of_array(f"sum of {name}", terms))
    gradient, norm = _gradient(updater, params, reference, batches, divisor)
    found += _of_parameters("gradient of", gradient)
    return [*found, _of_array("norm of the gradient", norm)]


def _is_read(gradient: Gradient, name: str) -> bool:
    return name == "weights" or not isinstance(gradient.objective, ImitationObjective)


@functools.partial(jax.jit, static_argnums=0)
def _computed(
    gradient: Gradient,
    frozen: Params,
    params: Params,
    reference_params: Params,
    batch: TrainBatch,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The forward pass: quantities of each token, and the terms of the loss."""
    rows = (batch.tokens, batch.segments, batch.loss_mask)
    logprobs, entropy = gradient.logprobs(frozen, params, *rows)
    tokens = {"log-probs": logprobs, "entropy": entropy}
    reference = jnp.zeros(batch.tokens.shape, jnp.float32)
    if gradient.objective.needs_reference:
        reference, _ = gradient.logprobs(frozen, reference_params, *rows)
        tokens["log-probs of the reference"] = reference
    if _is_read(gradient, "old_logprobs"):
        tokens["ratio"] = jnp.exp(logprobs - batch.old_logprobs)
    losses, metrics = gradient.objective(logprobs, entropy, reference, batch)
    tokens["loss"] = losses
    tokens["loss x weight"] = losses * batch.weights
    terms = {
        name: metric.value if isinstance(metric, Max) else metric.total
        for name, metric in metrics.items()
    }
    terms["loss"] = jnp.sum(tokens["loss x weight"], where=batch.loss_mask)
    return tokens, terms


def _gradient(
    updater: Updater,
    params: Params,
    reference: Params,
    batches: Sequence[TrainBatch],
    divisor: float | None,
) -> tuple[Params, Float[Array, ""]]:
    """The gradient of the loss and its norm, as `Updater.update` computes them."""
    zero = jnp.int32(0)
    state = TrainState(params, {}, reference, zero, zero)
    sums, metrics = updater.gradient_sums(state, batches)
    loss: Mean = metrics["loss"]
    weight = loss.weight if divisor is None else divisor
    gradient = jax.tree.map(lambda x, p: (x / weight).astype(p.dtype), sums, params)
    return gradient, optax.tree.norm(gradient)


def _of_parameters(kind: str, tree: Params) -> list[Quantity]:
    """A quantity for each parameter; "gradient of blocks/query"."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return [
        _of_array(f"{kind} {jax.tree_util.keystr(p, simple=True, separator='/')}", x)
        for p, x in leaves
    ]


def _of_array(name: str, array: Array) -> Quantity:
    return _summed(name, [_counts(array, jnp.bool_(True))])


def _of_tokens(
    name: str, arrays: Sequence[Array], batches: Sequence[TrainBatch]
) -> Quantity:
    """The quantity of the tokens that count in the loss."""
    counts = [
        _counts(values, batch.loss_mask)
        for values, batch in zip(arrays, batches, strict=True)
    ]
    found = _summed(name, counts)
    for number, (values, count) in enumerate(zip(arrays, counts, strict=True)):
        if count[1] + count[2]:
            row, position = divmod(int(count[4]), values.shape[1])
            return found._replace(first=(number, row, position))
    return found


def _summed(name: str, counts: Sequence[tuple[Any, ...]]) -> Quantity:
    numbers = [sum(int(count[i]) for count in counts) for i in range(3)]
    return Quantity(name, *numbers, max(float(count[3]) for count in counts))


@jax.jit
def _counts(values: Array, is_counted: Bool[Array, "..."]) -> tuple[Array, ...]:
    """Numbers of values, NaN and infinite ones; largest finite magnitude; first bad."""
    values = values.astype(jnp.float32)
    counted = jnp.broadcast_to(is_counted, values.shape)
    is_nan, is_infinite = jnp.isnan(values) & counted, jnp.isinf(values) & counted
    is_bad = is_nan | is_infinite
    magnitude = jnp.where(counted & ~is_bad, jnp.abs(values), 0.0)
    return (
        jnp.sum(counted),
        jnp.sum(is_nan),
        jnp.sum(is_infinite),
        jnp.max(magnitude, initial=0.0),
        jnp.argmax(is_bad.ravel()),
    )
