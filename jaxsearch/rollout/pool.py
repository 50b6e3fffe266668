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


class SlotPool:
    """Owns the slots on the device and calls the programs that change them.

    Ids are padded to one of a few lengths and rows to one of two counts, so that
    `warm_up` meets every shape.
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
        self._row_buckets = tuple(sorted({-(-limits.num_slots // 4), limits.num_slots}))
        transformer = programs.transformer
        cache = empty_cache(
            transformer.architecture,
            limits.num_slots,
            limits.max_len,
            transformer.dtype,
        )
        self._slots = put(empty_slots(limits.num_slots, limits.max_len, cache))

    def warm_up(self, params: Params, group_size: int) -> None:
        """Compiles every program in every shape that a rollout may need."""
        # Twice: the first round settles on which devices the slots live.
        for _ in range(2):
            for row_len in self._prompt_buckets:
                prompts = self._prefill(params, [], row_len, group_size)
                self.start(prompts, [], stage=0)
            for read_len in self._read_buckets:
                self._decode(params, 0.0, num_enough=1, max_steps=0, read_len=read_len)
                for num_rows in self._row_buckets:
                    for row_len in self._observation_buckets:
                        self._observe(params, {}, num_rows, row_len, read_len)
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
        fill = [Start(self._num_slots, 0, 0, 0)] * (self._num_slots - len(starts))
        rows, sources, positions, members = np.asarray([*starts, *fill], np.int32).T
        self._slots = self._programs.fork(
            self._slots, prompts, rows, sources, np.int32(stage), positions, members
        )

    def observe(
        self, params: Params, observations: Mapping[int, Sequence[int]], longest: int
    ) -> None:
        """Appends an observation to each slot that is named.

        Args:
          longest: tokens in the longest of these slots afterwards.
        """
        row_len = max(map(len, observations.values()))
        self._observe(
            params,
            observations,
            bucket_of(self._row_buckets, len(observations)),
            bucket_of(self._observation_buckets, row_len),
            bucket_of(self._read_buckets, longest),
        )

    def decode(
        self, params: Params, temperature: float, *, longest: int, max_steps: int
    ) -> None:
        """Decodes until a quarter of the slots have stopped, or for `max_steps`.

        Args:
          longest: tokens in the longest slot that decodes.
        """
        read_len = bucket_of(self._read_buckets, longest)
        if read_len < self._read_buckets[-1]:
            max_steps = max(1, min(max_steps, read_len - longest))
        self._decode(
            params,
            temperature,
            num_enough=max(1, self._num_slots // 4),
            max_steps=max_steps,
            read_len=read_len,
        )

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Phase and length of every slot, once the device is done."""
        # On a CPU device_get may give a view of memory that the next call reuses.
        return tuple(
            np.array(x) for x in jax.device_get((self._slots.phase, self._slots.length))
        )

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
        self, params, observations: Mapping, num_rows: int, row_len: int, read_len: int
    ) -> None:
        rows = [*observations.values(), *[[]] * (num_rows - len(observations))]
        self._slots = self._programs.observe(
            params,
            self._slots,
            self._padded_rows(observations, num_rows),
            pad_rows(rows, row_len, self._pad_id),
            np.asarray([len(row) for row in rows], np.int32),
            read_len,
        )

    def _decode(self, params, temperature, *, num_enough, max_steps, read_len) -> None:
        self._slots = self._programs.decode(
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
