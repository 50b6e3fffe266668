"""The device programs of a rollout, each with fixed shapes and donated slots."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsearch.id_ranges import IdRanges
from jaxsearch.models import cache as kv
from jaxsearch.models import cached_forward as cached
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.rollouts.layout import by_vocabulary, page_shardings, slot_shardings
from jaxsearch.rollouts.sampling import TopKTopP, sample, without_missing_ids
from jaxsearch.rollouts.slots import (
    Phase,
    Row,
    Slots,
    append,
    append_observed,
    put_rows,
    take_rows,
)


class Prompts(NamedTuple):
    """Prefilled prompts, to be forked into slots.

    Attributes:
      tokens: [P T].
      length: [P].
      pages: for each layer, ceil(T / W) pages per prompt.
    """

    tokens: Array
    length: Array
    pages: tuple[kv.Pages, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programs:
    """The programs prefill, fork, observe, read, release and decode of one policy.

    They run on the devices of their arguments; XLA compiles them for each replica.

    Attributes:
      end_ids: tokens that end a rollout.
      max_turn_len: maximum number of tokens sampled between two observations.
      id_ranges: ids that have a token, as (start, stop) pairs, if others are to have
        probability 0; None for all. The mask is a comparison per logit, which XLA fuses
        into the passes of the sampling, on each device's own logits.
      seed: seed of the run; the stage is folded into its key when a rollout starts.
        An argument of `fork`, so that all seeds share the compiled programs.
    """

    transformer: Transformer
    end_ids: tuple[int, ...]
    max_turn_len: int
    truncation: TopKTopP
    id_ranges: IdRanges | None = None
    seed: int = dataclasses.field(compare=False)

    @functools.partial(jax.jit, static_argnums=(0, 4))
    def prefill(
        self,
        params: Params,
        tokens: Int[Array, "P T"],
        length: Int[Array, " P"],
        page_len: int,
    ) -> Prompts:
        """Computes keys and values of a batch of prompts."""
        pages = cached.prefill(self.transformer, params, tokens, page_len)
        if mesh := self.transformer.rollout_mesh:
            shardings = tuple(page_shardings(mesh, layer) for layer in pages)
            pages = jax.lax.with_sharding_constraint(pages, shardings)
        return Prompts(tokens, length, pages)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def fork(
        self,
        slots: Slots,
        prompts: Prompts,
        rows: Int[Array, " R"],
        pages: Int[Array, "R M"],
        sources: Int[Array, " R"],
        seed: Int[Array, ""],
        stage: Int[Array, ""],
        prompt_indices: Int[Array, " R"],
        sample_indices: Int[Array, " R"],
        stop_states: Int[Array, " R"],
    ) -> Slots:
        """Starts rollouts: copies prompt sources[r] into the pages of slot rows[r].

        The random key of a rollout depends on (seed, stage, prompt_index,
        sample_index), not on its slot.
        """
        stage_key = jax.random.fold_in(jax.random.key(seed), stage)

        def rollout_key(prompt_index, sample_index):
            prompt_key = jax.random.fold_in(stage_key, prompt_index)
            return jax.random.fold_in(prompt_key, sample_index)

        # The pages of each prompt in `sources`.
        per_prompt = -(-prompts.tokens.shape[1] // slots.cache[0][0].page_len)
        new = sources[:, None] * per_prompt + jnp.arange(per_prompt)[None]
        targets = pages[:, :per_prompt].reshape(-1)
        cache = tuple(
            kv.put(layer, targets, jax.tree.map(lambda x: x[new.reshape(-1)], prompt))
            for layer, prompt in zip(slots.cache, prompts.pages, strict=True)
        )
        slots = slots._replace(
            length=slots.length.at[rows].set(0, mode="drop"),
            turn_len=slots.turn_len.at[rows].set(0, mode="drop"),
            phase=slots.phase.at[rows].set(Phase.DECODING, mode="drop"),
            stop_state=slots.stop_state.at[rows].set(stop_states, mode="drop"),
            keys=slots.keys.at[rows].set(
                jax.vmap(rollout_key)(prompt_indices, sample_indices), mode="drop"
            ),
            cache=cache,
        )
        slots = append_observed(
            slots, rows, prompts.tokens[sources], prompts.length[sources]
        )
        return self._in_place(slots)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
    def observe(
        self,
        params: Params,
        slots: Slots,
        rows: Int[Array, " R"],
        pages: Int[Array, "R M"],
        tokens: Int[Array, "R T"],
        num_tokens: Int[Array, " R"],
        stop_states: Int[Array, " R"],
    ) -> Slots:
        """Appends observations to waiting slots, which then continue decoding.

        Only new tokens are fed to the network: the last sampled token, which has no
        keys and values yet, and the observation without its last token.
        """
        last_position = slots.length.at[rows].get(mode="clip") - 1
        last = slots.tokens.at[rows, last_position].get(mode="clip")
        fed = jnp.concatenate([last[:, None], tokens[:, :-1]], axis=1)
        _, cache = cached.append(
            self.transformer,
            params,
            fed,
            last_position,
            num_tokens,
            slots.cache,
            pages,
        )
        slots = append_observed(slots._replace(cache=cache), rows, tokens, num_tokens)
        slots = slots._replace(
            turn_len=slots.turn_len.at[rows].set(0, mode="drop"),
            phase=slots.phase.at[rows].set(Phase.DECODING, mode="drop"),
            stop_state=slots.stop_state.at[rows].set(stop_states, mode="drop"),
        )
        return self._in_place(slots)

    @functools.partial(jax.jit, static_argnums=0)
    def read(
        self, slots: Slots, rows: Int[Array, " R"]
    ) -> tuple[Row, Int[Array, " R"]]:
        """The whole rows [R S] of some slots, and their lengths; rows >= B are padding.

        Gathered on the device: the host would fetch the rows of all slots.
        """
        s = slots
        columns = Row(s.tokens, s.is_policy, s.logprobs, s.sampling_logprobs)
        return jax.tree.map(lambda x: x.at[rows].get(mode="clip"), (columns, s.length))

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def release(self, slots: Slots, rows: Int[Array, " R"]) -> Slots:
        """Marks slots as free, after their rollouts have been read."""
        phase = slots.phase.at[rows].set(Phase.FREE, mode="drop")
        return self._in_place(slots._replace(phase=phase))

    @functools.partial(jax.jit, static_argnums=(0, 9), donate_argnums=2)
    def decode(
        self,
        params: Params,
        slots: Slots,
        rows: Int[Array, " R"],
        pages: Int[Array, "R M"],
        table: Int[Array, "states V"],
        temperature: Float[Array, ""],
        num_enough: Int[Array, ""],
        max_steps: Int[Array, ""],
        num_pages: int,
    ) -> tuple[Slots, Int[Array, ""]]:
        """Decodes some slots until `num_enough` of them stop, or for `max_steps`.

        Args:
          rows: the slots, which must be decoding; rows >= B are padding.
          pages: pages of each slot.
          table: table of the stop automaton; see `stop_table`.
          num_pages: number of pages of the cache to read.

        Returns:
          The slots and the number of steps taken.
        """
        transformer, max_len = self.transformer, slots.tokens.shape[1]
        head = transformer.head(params)
        is_slot = rows < slots.length.shape[0]
        min_decoding = jnp.maximum(jnp.sum(is_slot) - num_enough, 0)

        def is_unfinished(carry: tuple[Array, Slots]) -> Array:
            count, some = carry
            num_decoding = jnp.sum(some.phase == Phase.DECODING)
            return (count < max_steps) & (num_decoding > min_decoding)

        def step(carry: tuple[Array, Slots]) -> tuple[Array, Slots]:
            count, some = carry
            is_decoding = some.phase == Phase.DECODING
            num_fed = is_decoding.astype(jnp.int32)
            # Slots that are not decoding are computed too, but not written.
            position = jnp.clip(some.length - 1, 0, max_len - 1)
            last = jnp.take_along_axis(some.tokens, position[:, None], axis=1)[:, 0]
            hidden, cache = cached.step(
                transformer,
                params,
                last,
                position,
                is_decoding,
                some.cache,
                pages,
                num_pages,
            )
            logits = jnp.einsum(
                "BD,VD->BV", hidden, head, preferred_element_type=jnp.float32
            )
            mesh = transformer.rollout_mesh
            if mesh is not None:
                # Otherwise XLA would gather the head.
                logits = jax.lax.with_sharding_constraint(logits, by_vocabulary(mesh))
            if self.id_ranges is not None:
                logits = without_missing_ids(logits, self.id_ranges)
            uniforms = jax.vmap(_uniform)(some.keys, some.length)
            token, logprob, truncated_logprob = sample(
                logits, uniforms, temperature, self.truncation, mesh
            )
            some = append(
                some._replace(cache=cache),
                jnp.arange(len(rows)),
                token[:, None],
                num_fed,
                is_policy=True,
                logprobs=logprob[:, None],
                sampling_logprobs=truncated_logprob[:, None],
            )
            turn_len = some.turn_len + num_fed
            stop_state = table[some.stop_state, token]
            is_full = (some.length >= max_len) | (turn_len >= self.max_turn_len)
            phase = jnp.where(is_full, Phase.EXHAUSTED, Phase.DECODING)
            phase = jnp.where(stop_state == table.shape[0] - 1, Phase.WAITING, phase)
            is_end = (token[:, None] == jnp.asarray(self.end_ids)[None]).any(axis=1)
            phase = jnp.where(is_end, Phase.ENDED, phase)
            phase = jnp.where(is_decoding, phase, some.phase).astype(jnp.int32)
            stop_state = jnp.where(is_decoding, stop_state, some.stop_state)
            return count + 1, some._replace(
                turn_len=turn_len, stop_state=stop_state, phase=phase
            )

        some = take_rows(slots, rows)
        steps, some = jax.lax.while_loop(is_unfinished, step, (jnp.int32(0), some))
        return self._in_place(put_rows(slots, rows, some)), steps

    def _in_place(self, slots: Slots) -> Slots:
        """The slots with sharding constraints, so that XLA keeps their shardings."""
        mesh = self.transformer.rollout_mesh
        if mesh is None:
            return slots
        return jax.lax.with_sharding_constraint(slots, slot_shardings(mesh, slots))


def _uniform(key: Array, position: Array) -> Array:
    """The random number of a rollout at a token position, in [0, 1)."""
    return jax.random.uniform(jax.random.fold_in(key, position), dtype=jnp.float32)
