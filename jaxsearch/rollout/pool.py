"""The slots as the host sees them: ragged lists in, fixed shapes on the device."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxsearch.data.tokenizer import pad_rows
from jaxsearch.models.cache import empty_cache
from jaxsearch.models.transformer import Params
from jaxsearch.rollout.decode import Programs, Prompts
from jaxsearch.rollout.limits import Limits, bucket_of, buckets
from jaxsearch.rollout.slots import Row, Slots, Start, empty_slots

# Tokens of observations that are fed at once: enough for the products to run near the
# machine's rate, few enough that a batch is seldom padded with empty rows. Two CPU
# cores reach three quarters of their best rate at 192 rows; 128 rollouts through 32
# slots spent 4.6 s on appends with 192, 5.5 with 384, 6.9 with 512. An accelerator
# needs more rows than that to be busy.
_APPENDED_TOKENS_ON_CPU = 192
_APPENDED_TOKENS = 2048


class SlotPool:
    """Owns the slots on the device and calls the programs that change them.

    Ids are padded to one of a few lengths, and each length has its number of rows, so
    that `warm_up` meets every shape.
    """

    def __init__(
        self,
        programs: Programs,
        limits: Limits,
        table: np.ndarray,
        pad_id: int,
        put: Callable[[Slots], Slots],
    ):
        self._programs = programs
        self._table = jnp.asarray(table)
        self._pad_id = pad_id
        self._num_slots = limits.num_slots
        self._prompt_buckets = buckets(limits.max_prompt_len)
        self._observation_buckets = buckets(limits.max_observation_len)
        self._read_buckets = buckets(limits.max_len)
        is_cpu = jax.default_backend() == "cpu"
        tokens = _APPENDED_TOKENS_ON_CPU if is_cpu else _APPENDED_TOKENS
        # Rows that one append takes, for each length of observations.
        self._append_rows = {
            row_len: min(limits.num_slots, max(1, tokens // row_len))
            for row_len in self._observation_buckets
        }
        transformer = programs.transformer
        cache = empty_cache(
            transformer.architecture,
            limits.num_slots,
            limits.max_len,
            transformer.dtype,
        )
        self._slots = put(empty_slots(limits.num_slots, limits.max_len, cache))
        self._steps = jnp.int32(0)
        # A slot that has stopped idles until so many have; fewer make more calls with
        # emptier appends. Of 32 slots 1, 2, 4 and 8 took 10.3, 9.5, 9.3 and 9.4 s.
        self._num_enough = max(1, limits.num_slots // 8)

    def warm_up(self, params: Params, group_size: int) -> None:
        """Compiles every program in every shape that a rollout may need."""
        # Twice: the first round settles on which devices the slots live.
        for _ in range(2):
            for row_len in self._prompt_buckets:
                prompts = self._prefill(params, [], row_len, group_size)
                self.start(prompts, [], stage=0)
            for read_len in self._read_buckets:
                self._decode(params, 0.0, num_enough=1, max_steps=0, read_len=read_len)
                for row_len in self._observation_buckets:
                    self._observe(params, {}, {}, row_len, read_len)
            self.release([])

    def num_prompts(self, group_size: int) -> int:
        """Prompts that are prefilled together: enough to fill every slot."""
        return -(-self._num_slots // group_size)

    def prefill(
        self, params: Params, prompts: Sequence[Sequence[int]], group_size: int
    ) -> Prompts:
        """Keys and values of up to `num_prompts(group_size)` prompts."""
        row_len = bucket_of(self._prompt_buckets, max(map(len, prompts)))
        return self._prefill(params, prompts, row_len, group_size)

    def start(self, prompts: Prompts, starts: Sequence[Start], stage: int) -> None:
        """Puts a prompt into each slot that is named."""
        fill = [Start(self._num_slots, 0, 0, 0, 0)] * (self._num_slots - len(starts))
        rows, sources, *rest = np.asarray([*starts, *fill], np.int32).T
        self._slots = self._programs.fork(
            self._slots, prompts, rows, sources, np.int32(stage), *rest
        )

    def observe(
        self,
        params: Params,
        observations: Mapping[int, Sequence[int]],
        stop_states: Mapping[int, int],
        lengths: Mapping[int, int],
    ) -> None:
        """Appends an observation to each slot that is named, a few rows at a time.

        Args:
          stop_states: in which the next turn of each begins.
          lengths: tokens in each slot afterwards.
        """
        # Rows of like length together: they are padded to the longest of their batch.
        waiting = sorted(observations, key=lambda slot: len(observations[slot]))
        while waiting:
            longest = len(observations[waiting[-1]])
            row_len = bucket_of(self._observation_buckets, longest)
            num_rows = self._append_rows[row_len]
            batch, waiting = waiting[-num_rows:], waiting[:-num_rows]
            read_len = bucket_of(self._read_buckets, max(lengths[s] for s in batch))
            rows = {slot: observations[slot] for slot in batch}
            self._observe(params, rows, stop_states, row_len, read_len)

    def decode(
        self, params: Params, temperature: float, *, longest: int, max_steps: int
    ) -> None:
        """Decodes until an eighth of the slots have stopped, or for `max_steps`.

        Args:
          longest: tokens in the longest slot that decodes.
        """
        read_len = bucket_of(self._read_buckets, longest)
        if read_len < self._read_buckets[-1]:
            max_steps = max(1, min(max_steps, read_len - longest))
        self._decode(
            params,
            temperature,
            num_enough=self._num_enough,
            max_steps=max_steps,
            read_len=read_len,
        )

    def state(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Phase and length of every slot, and steps of the last call of decode.

        Waits for the device.
        """
        phase, length, steps = jax.device_get(
            (self._slots.phase, self._slots.length, self._steps)
        )
        # On a CPU device_get may give a view of memory that the next call reuses.
        return np.array(phase), np.array(length), int(steps)

    def wait(self, prompts: Prompts | None) -> None:
        """Until the device has done what it was asked for."""
        jax.block_until_ready((self._slots, prompts))

    def rows(self, slots: Iterable[int]) -> dict[int, Row]:
        """What the named slots hold."""
        s = self._slots
        columns = Row(s.tokens, s.is_policy, s.logprobs, s.sampling_logprobs)
        columns, lengths = jax.device_get((columns, s.length))
        return {
            slot: Row(*(column[slot, : lengths[slot]].copy() for column in columns))
            for slot in slots
        }

    def release(self, slots: Sequence[int]) -> None:
        """Frees the named slots."""
        self._slots = self._programs.release(self._slots, self._padded_rows(slots))

    def _prefill(self, params, prompts, row_len: int, group_size: int) -> Prompts:
        fill = [[self._pad_id]] * (self.num_prompts(group_size) - len(prompts))
        rows = [*prompts, *fill]
        return self._programs.prefill(
            params,
            pad_rows(rows, row_len, self._pad_id),
            np.asarray([len(row) for row in rows], np.int32),
        )

    def _observe(
        self,
        params,
        observations: Mapping[int, Sequence[int]],
        stop_states: Mapping[int, int],
        row_len: int,
        read_len: int,
    ) -> None:
        num_rows = self._append_rows[row_len]
        num_padded = num_rows - len(observations)
        rows = [*observations.values(), *[[]] * num_padded]
        self._slots = self._programs.observe(
            params,
            self._slots,
            self._padded_rows(observations, num_rows),
            pad_rows(rows, row_len, self._pad_id),
            np.asarray([len(row) for row in rows], np.int32),
            np.asarray(
                [*(stop_states[slot] for slot in observations), *[0] * num_padded],
                np.int32,
            ),
            read_len,
        )

    def _decode(self, params, temperature, *, num_enough, max_steps, read_len) -> None:
        self._slots, self._steps = self._programs.decode(
            params,
            self._slots,
            self._table,
            np.float32(temperature),
            np.int32(num_enough),
            np.int32(max_steps),
            read_len,
        )

    def _padded_rows(self, slots: Iterable[int], num_rows: int | None = None):
        """Slot numbers, filled up with one that does not exist."""
        slots = list(slots)
        num_rows = self._num_slots if num_rows is None else num_rows
        return np.asarray(
            [*slots, *[self._num_slots] * (num_rows - len(slots))], np.int32
        )
