"""The device programs of a rollout. Each has fixed shapes and donated slots."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsearch.models.cache import Cache, copy_rows, empty_cache
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.rollout.sampling import Cut, sample
from jaxsearch.rollout.slots import Phase, Slots, append, append_observed


class Prompts(NamedTuple):
    """Prefilled prompts, waiting to be forked into slots.

    Attributes:
      tokens: [P T]; length: [P]; cache: keys and values of all tokens but the last.
    """

    tokens: Array
    length: Array
    cache: Cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programs:
    """Prefill, fork, observe and decode for one policy and one set of rules.

    Attributes:
      end_id: token that ends a rollout.
      max_turn_len: tokens sampled between two observations.
      seed: of the run; the stage is folded in when a rollout starts.
    """

    transformer: Transformer
    end_id: int
    max_turn_len: int
    cut: Cut
    seed: int

    @functools.partial(jax.jit, static_argnums=0)
    def prefill(
        self, params: Params, tokens: Int[Array, "P T"], length: Int[Array, " P"]
    ) -> Prompts:
        """Keys and values of a batch of prompts."""
        P, T = tokens.shape
        transformer = self.transformer
        cache = empty_cache(transformer.architecture, P, T, transformer.dtype)
        positions = jnp.broadcast_to(jnp.arange(T)[None], (P, T))
        _, cache = transformer.hidden_cached(
            params, tokens, positions, length - 1, cache, None, T
        )
        return Prompts(tokens, length, cache)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def fork(
        self,
        slots: Slots,
        prompts: Prompts,
        rows: Int[Array, " R"],
        sources: Int[Array, " R"],
        stage: Int[Array, ""],
        positions: Int[Array, " R"],
        members: Int[Array, " R"],
        stop_states: Int[Array, " R"],
    ) -> Slots:
        """Starts rollouts: copies prompt sources[r] into slot rows[r].

        The random key of a rollout comes from (seed, stage, position in the
        question stream, member of the group): never from its slot.
        """
        stage_key = jax.random.fold_in(jax.random.key(self.seed), stage)

        def rollout_key(position, member):
            return jax.random.fold_in(jax.random.fold_in(stage_key, position), member)

        slots = slots._replace(
            length=slots.length.at[rows].set(0, mode="drop"),
            turn_len=slots.turn_len.at[rows].set(0, mode="drop"),
            phase=slots.phase.at[rows].set(Phase.DECODING, mode="drop"),
            stop_state=slots.stop_state.at[rows].set(stop_states, mode="drop"),
            keys=slots.keys.at[rows].set(
                jax.vmap(rollout_key)(positions, members), mode="drop"
            ),
            cache=copy_rows(slots.cache, rows, prompts.cache, sources),
        )
        return append_observed(
            slots, rows, prompts.tokens[sources], prompts.length[sources]
        )

    @functools.partial(jax.jit, static_argnums=(0, 7), donate_argnums=2)
    def observe(
        self,
        params: Params,
        slots: Slots,
        rows: Int[Array, " R"],
        tokens: Int[Array, "R T"],
        num_tokens: Int[Array, " R"],
        stop_states: Int[Array, " R"],
        read_len: int,
    ) -> Slots:
        """Appends observations to slots that wait for them, which then go on.

        Only new tokens are fed: the last sampled one, which has no keys and values
        yet, and the observation without its last.
        """
        last_position = slots.length.at[rows].get(mode="clip") - 1
        last = slots.tokens.at[rows, last_position].get(mode="clip")
        fed = jnp.concatenate([last[:, None], tokens[:, :-1]], axis=1)
        positions = last_position[:, None] + jnp.arange(tokens.shape[1])[None]
        _, cache = self.transformer.hidden_cached(
            params, fed, positions, num_tokens, slots.cache, rows, read_len
        )
        slots = append_observed(slots._replace(cache=cache), rows, tokens, num_tokens)
        return slots._replace(
            turn_len=slots.turn_len.at[rows].set(0, mode="drop"),
            phase=slots.phase.at[rows].set(Phase.DECODING, mode="drop"),
            stop_state=slots.stop_state.at[rows].set(stop_states, mode="drop"),
        )

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def release(self, slots: Slots, rows: Int[Array, " R"]) -> Slots:
        """Frees slots whose rollouts were taken."""
        return slots._replace(phase=slots.phase.at[rows].set(Phase.FREE, mode="drop"))

    @functools.partial(jax.jit, static_argnums=(0, 7), donate_argnums=2)
    def decode(
        self,
        params: Params,
        slots: Slots,
        table: Int[Array, "states V"],
        temperature: Float[Array, ""],
        num_enough: Int[Array, ""],
        max_steps: Int[Array, ""],
        read_len: int,
    ) -> tuple[Slots, Int[Array, ""]]:
        """Samples until `num_enough` more slots stop, or for `max_steps` tokens.

        Returns the slots, and for how many steps it went on.
        """
        transformer, max_len = self.transformer, slots.tokens.shape[1]
        head = transformer.head(params)
        rows = jnp.arange(slots.tokens.shape[0])
        num_decoding = jnp.sum(slots.phase == Phase.DECODING)
        least = jnp.maximum(num_decoding - num_enough, 0)

        def is_unfinished(carry: tuple[Array, Slots]) -> Array:
            step, slots = carry
            return (step < max_steps) & (jnp.sum(slots.phase == Phase.DECODING) > least)

        def step(carry: tuple[Array, Slots]) -> tuple[Array, Slots]:
            count, slots = carry
            is_decoding = slots.phase == Phase.DECODING
            num_fed = is_decoding.astype(jnp.int32)
            # A slot that is not decoding is computed along and written nowhere.
            position = jnp.clip(slots.length - 1, 0, max_len - 1)[:, None]
            last = jnp.take_along_axis(slots.tokens, position, axis=1)
            hidden, cache = transformer.hidden_cached(
                params, last, position, num_fed, slots.cache, None, read_len
            )
            logits = jnp.einsum(
                "BD,VD->BV", hidden[:, 0], head, preferred_element_type=jnp.float32
            )
            uniforms = jax.vmap(_uniform)(slots.keys, slots.length)
            token, logprob, cut_logprob = sample(
                logits, uniforms, temperature, self.cut
            )
            slots = append(
                slots._replace(cache=cache),
                rows,
                token[:, None],
                num_fed,
                is_policy=True,
                logprobs=logprob[:, None],
                sampling_logprobs=cut_logprob[:, None],
            )
            turn_len = slots.turn_len + num_fed
            stop_state = table[slots.stop_state, token]
            is_full = (slots.length >= max_len) | (turn_len >= self.max_turn_len)
            phase = jnp.where(is_full, Phase.EXHAUSTED, Phase.DECODING)
            phase = jnp.where(stop_state == table.shape[0] - 1, Phase.SEARCHING, phase)
            phase = jnp.where(token == self.end_id, Phase.ENDED, phase)
            phase = jnp.where(is_decoding, phase, slots.phase).astype(jnp.int32)
            stop_state = jnp.where(is_decoding, stop_state, slots.stop_state)
            return count + 1, slots._replace(
                turn_len=turn_len, stop_state=stop_state, phase=phase
            )

        steps, slots = jax.lax.while_loop(is_unfinished, step, (jnp.int32(0), slots))
        return slots, steps


def _uniform(key: Array, position: Array) -> Array:
    return jax.random.uniform(jax.random.fold_in(key, position), dtype=jnp.float32)
