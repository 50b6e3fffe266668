"""Per-slot decode state, kept on the device."""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsearch.models.cache import Cache


class Phase(enum.IntEnum):
    """The state of a slot."""

    FREE = 0
    DECODING = 1
    WAITING = 2  # wrote a stop tag and waits for an observation
    ENDED = 3  # wrote an end token
    EXHAUSTED = 4  # a token budget ran out


class Slots(NamedTuple):
    """State of B rollouts of up to S tokens.

    The last token of a row has no keys and values yet; the next step feeds it.

    Attributes:
      tokens, is_policy, logprobs, sampling_logprobs: [B S]; written only by `append`.
      length: tokens in the row, [B].
      turn_len: tokens sampled since the last observation, [B].
      phase: a Phase, [B].
      stop_state: state of the stop automaton, [B].
      keys: one random key per rollout, [B].
      cache: keys and values of the first length - 1 tokens, in pages that the host
        assigns to slots (`PageTable`). Unlike the other fields, it has no row axis.
    """

    tokens: Array
    is_policy: Array
    logprobs: Array
    sampling_logprobs: Array
    length: Array
    turn_len: Array
    phase: Array
    stop_state: Array
    keys: Array
    cache: Cache


class Start(NamedTuple):
    """A rollout to start: its slot, its row in `Prompts`, and its identity."""

    slot: int
    source: int
    prompt_index: int
    sample_index: int
    stop_state: int  # of its first turn


class Row(NamedTuple):
    """The contents of one slot, up to its length; on the device, of several slots."""

    tokens: np.ndarray | Array
    is_policy: np.ndarray | Array
    logprobs: np.ndarray | Array
    sampling_logprobs: np.ndarray | Array


def empty_slots(num_slots: int, max_len: int, cache: Cache) -> Slots:
    """Free slots."""
    per_token = (num_slots, max_len)
    return Slots(
        tokens=jnp.zeros(per_token, jnp.int32),
        is_policy=jnp.zeros(per_token, bool),
        logprobs=jnp.zeros(per_token, jnp.float32),
        sampling_logprobs=jnp.zeros(per_token, jnp.float32),
        length=jnp.zeros(num_slots, jnp.int32),
        turn_len=jnp.zeros(num_slots, jnp.int32),
        phase=jnp.full(num_slots, Phase.FREE, jnp.int32),
        stop_state=jnp.zeros(num_slots, jnp.int32),
        keys=jax.vmap(jax.random.key)(jnp.zeros(num_slots, jnp.uint32)),
        cache=cache,
    )


def take_rows(slots: Slots, rows: Int[Array, " R"]) -> Slots:
    """Selects rows, with the whole cache; rows >= B are free."""
    some = jax.tree.map(
        lambda x: x.at[rows].get(mode="clip"), slots._replace(cache=None)
    )
    is_row = rows < slots.phase.shape[0]
    return some._replace(
        cache=slots.cache, phase=jnp.where(is_row, some.phase, Phase.FREE)
    )


def put_rows(slots: Slots, rows: Int[Array, " R"], some: Slots) -> Slots:
    """Replaces rows of the slots, and takes the cache of `some`."""
    put = jax.tree.map(
        lambda old, new: old.at[rows].set(new, mode="drop"),
        slots._replace(cache=None),
        some._replace(cache=None),
    )
    return put._replace(cache=some.cache)


def append(
    slots: Slots,
    rows: Int[Array, " R"],
    tokens: Int[Array, "R T"],
    num_tokens: Int[Array, " R"],
    *,
    is_policy: bool,
    logprobs: Float[Array, "R T"],
    sampling_logprobs: Float[Array, "R T"],
) -> Slots:
    """Appends the first num_tokens[r] tokens to row rows[r].

    Tokens, provenance and log-probs are written only here, so provenance is decided
    when a token enters a row. Rows >= B are padding.
    """
    index = jnp.arange(tokens.shape[1])[None]
    start = slots.length.at[rows].get(mode="clip")
    is_token = index < num_tokens[:, None]
    position = jnp.where(is_token, start[:, None] + index, slots.tokens.shape[1])
    at = (rows[:, None], position)
    return slots._replace(
        tokens=slots.tokens.at[at].set(tokens, mode="drop"),
        is_policy=slots.is_policy.at[at].set(is_policy, mode="drop"),
        logprobs=slots.logprobs.at[at].set(logprobs, mode="drop"),
        sampling_logprobs=slots.sampling_logprobs.at[at].set(
            sampling_logprobs, mode="drop"
        ),
        length=slots.length.at[rows].add(num_tokens, mode="drop"),
    )


def append_observed(
    slots: Slots,
    rows: Int[Array, " R"],
    tokens: Int[Array, "R T"],
    num_tokens: Int[Array, " R"],
) -> Slots:
    """Appends tokens that the policy did not sample: prompts and observations."""
    unsampled = jnp.zeros(tokens.shape, jnp.float32)
    return append(
        slots,
        rows,
        tokens,
        num_tokens,
        is_policy=False,
        logprobs=unsampled,
        sampling_logprobs=unsampled,
    )
