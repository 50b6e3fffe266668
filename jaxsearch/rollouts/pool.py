"""The slots of a replica: pads ragged host data to fixed shapes on the device."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from jaxsearch.data.tokenizer import pad_rows
from jaxsearch.models.transformer import Params
from jaxsearch.rollouts.budgets import Budgets, bucket_of
from jaxsearch.rollouts.decode import Programs, Prompts
from jaxsearch.rollouts.layout import (
    replica_params,
    replicated,
    rollout_shardings,
    slot_shardings,
)
from jaxsearch.rollouts.pages import PageTable
from jaxsearch.rollouts.shapes import initial_slots, local_shapes, num_enough
from jaxsearch.rollouts.slots import Row, Start

# Fraction of a page that is assigned to a slot beyond its length. It limits the steps
# that decoding can take before the host assigns more pages.
_AHEAD = 0.5


class SlotPool:
    """Owns the slots of a replica and calls the programs that change them.

    Ids are padded to a few lengths and row counts, so that `warm_ups` can compile every
    shape. Parameters passed to its methods must come from `params_of`.

    Args:
      mesh: mesh of the replica.
    """

    def __init__(
        self,
        programs: Programs,
        budgets: Budgets,
        table: np.ndarray,
        pad_id: int,
        mesh: Mesh,
    ):
        self._programs = programs
        self._mesh = mesh
        self._param_shardings = rollout_shardings(mesh, programs.transformer)
        self._table = jax.device_put(table, replicated(mesh))
        self._pad_id = pad_id
        self._budgets = budgets
        self._num_slots = budgets.num_slots
        self._max_len = budgets.max_len
        transformer = programs.transformer
        self._shapes = local_shapes(budgets, transformer)
        self._pages = PageTable(
            num_slots=budgets.num_slots,
            num_pages=self._shapes.num_pages,
            page_len=self._shapes.page_len,
            max_len=budgets.max_len,
        )

        slots = functools.partial(initial_slots, self._shapes, transformer)
        # Allocated with their shardings, because one device may be too small for all.
        shardings = slot_shardings(mesh, jax.eval_shape(slots))
        self._make_slots = jax.jit(slots, out_shardings=shardings)
        self._slots = self._make_slots()
        self._steps: jax.Array | np.int32 = np.int32(0)

    def free_cache(self) -> None:
        """Deletes the slots until `allocate_cache`; no slot may be in use."""
        jax.tree.map(lambda array: array.delete(), self._slots)

    def allocate_cache(self) -> None:
        """Allocates the slots again after `free_cache`."""
        if self._slots.length.is_deleted():
            self._slots = self._make_slots()

    def params_of(self, rollout_params: Params) -> Params:
        """The rollout parameters on the devices of this replica."""
        return replica_params(self._mesh, self._param_shardings, rollout_params)

    def warm_ups(self, params: Params, group_size: int) -> list[Callable[[], None]]:
        """Calls that compile every program in every shape that a rollout may need."""
        compile_prompts = functools.partial(self._warm_up_prompts, params, group_size)
        decode = functools.partial(self._decode, params, 0.0, [])
        observe = functools.partial(self._observe, params, {}, {})
        return [
            *(
                functools.partial(compile_prompts, row_len)
                for row_len in self._shapes.prompt_lens
            ),
            *(
                functools.partial(decode, num_rows, end, 0)
                for num_rows, ends in self._shapes.read_ends.items()
                for end in ends
            ),
            *(
                functools.partial(observe, row_len, num_rows, num_pages)
                for num_pages in self._shapes.row_pages
                for row_len, row_counts in self._shapes.append_rows.items()
                for num_rows in row_counts
            ),
            functools.partial(self._read, []),
            functools.partial(self.release, []),
        ]

    def _warm_up_prompts(self, params: Params, group_size: int, row_len: int) -> None:
        prompts = self._prefill(params, [], row_len, group_size)
        self.start(prompts, [], stage=0)

    def num_prompts(self, group_size: int) -> int:
        """Number of prompts that are prefilled together, enough to fill all slots."""
        return self._budgets.num_prompts(group_size)

    def prefill(
        self, params: Params, prompts: Sequence[Sequence[int]], group_size: int
    ) -> Prompts:
        """Computes keys and values of up to `num_prompts(group_size)` prompts."""
        row_len = bucket_of(self._shapes.prompt_lens, max(map(len, prompts)))
        return self._prefill(params, prompts, row_len, group_size)

    def start(self, prompts: Prompts, starts: Sequence[Start], stage: int) -> None:
        """Starts rollouts in slots for which `cover` was called."""
        fill = [Start(self._num_slots, 0, 0, 0, 0)] * (self._num_slots - len(starts))
        rows, sources, *rest = np.asarray([*starts, *fill], np.int32).T
        pages = self._pages.rows([start.slot for start in starts], self._num_slots)
        numbers = (np.int32(self._programs.seed), np.int32(stage))
        self._slots = self._programs.fork(
            self._slots, prompts, rows, pages, sources, *numbers, *rest
        )

    def admits(self, length: int) -> bool:
        """Whether the cache has room for one more row of `length` tokens."""
        return self._pages.admits(length)

    def cover(self, slot: int, length: int) -> bool:
        """Assigns pages for `length` tokens; if too few are free, returns False."""
        return self._pages.cover(slot, length)

    def page_owners(self) -> Int[np.ndarray, " P"]:
        """The slot that owns each page of the cache; -1 for free pages."""
        return self._pages.owners()

    def observe(
        self,
        params: Params,
        observations: Mapping[int, Sequence[int]],
        stop_states: Mapping[int, int],
    ) -> None:
        """Appends observations to slots for which `cover` was called.

        Args:
          stop_states: for each slot, the stop state at the start of its next turn.
        """
        # Sorted by length, because rows are padded to the longest in their batch.
        waiting = sorted(observations, key=lambda slot: len(observations[slot]))
        while waiting:
            longest = len(observations[waiting[-1]])
            row_len = bucket_of(tuple(self._shapes.append_rows), longest)
            row_counts = self._shapes.append_rows[row_len]
            num_rows = bucket_of(row_counts, min(len(waiting), row_counts[-1]))
            batch, waiting = waiting[-num_rows:], waiting[:-num_rows]
            rows = {slot: observations[slot] for slot in batch}
            num_pages = (
                max(self._pages.covered(s) for s in batch) // self._pages.page_len
            )
            num_pages = bucket_of(self._shapes.row_pages, num_pages)
            self._observe(params, rows, stop_states, row_len, num_rows, num_pages)

    def decode(
        self,
        params: Params,
        temperature: float,
        lengths: Mapping[int, int],
        max_steps: int,
    ) -> list[int]:
        """Decodes until an eighth of these slots have stopped, or for `max_steps`.

        Args:
          lengths: tokens in each slot to decode, in the order in which pages are
            assigned.

        Returns:
          The slots for which the cache had pages; only these were decoded.
        """
        ahead = max(1, int(_AHEAD * self._pages.page_len))
        slots = []
        for slot, length in lengths.items():
            wanted = min(length + ahead, self._max_len)
            if self.cover(slot, wanted) or self.cover(slot, length):
                slots.append(slot)
        if not slots:
            return []
        # The last token of a row is cached when the next is sampled.
        room = min(self._pages.covered(slot) - lengths[slot] + 1 for slot in slots)
        num_rows = bucket_of(tuple(self._shapes.read_ends), len(slots))
        end = bucket_of(self._shapes.read_ends[num_rows], self._pages.end(slots))
        self._decode(params, temperature, slots, num_rows, end, min(max_steps, room))
        return slots

    def state(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Phase and length of every slot, and the steps of the last call of `decode`.

        Waits for the device.
        """
        phase, length, steps = jax.device_get(
            (self._slots.phase, self._slots.length, self._steps)
        )
        # On a CPU, device_get may return a view of memory that the next call reuses.
        return np.array(phase), np.array(length), int(steps)

    def wait(self, prompts: Prompts | None) -> None:
        """Waits until the device has finished its work."""
        jax.block_until_ready((self._slots, prompts))

    def rows(self, slots: Iterable[int]) -> dict[int, Row]:
        """The contents of some slots.

        Only these rows leave the device, a fixed number per program call.
        """
        slots, found = list(slots), {}
        size = num_enough(self._num_slots)
        for batch in (slots[i : i + size] for i in range(0, len(slots), size)):
            columns, lengths = jax.device_get(self._read(batch))
            for row, slot in enumerate(batch):
                end = lengths[row]
                found[slot] = Row(*(column[row, :end].copy() for column in columns))
        return found

    def _read(self, slots: Sequence[int]) -> tuple[Row, jax.Array]:
        rows = self._padded_rows(slots, num_enough(self._num_slots))
        return self._programs.read(self._slots, rows)

    def release(self, slots: Sequence[int]) -> None:
        """Frees some slots and their pages."""
        for slot in slots:
            self._pages.release(slot)
        self._slots = self._programs.release(self._slots, self._padded_rows(slots))

    def _prefill(self, params, prompts, row_len: int, group_size: int) -> Prompts:
        fill = [[self._pad_id]] * (self.num_prompts(group_size) - len(prompts))
        rows = [*prompts, *fill]
        return self._programs.prefill(
            params,
            pad_rows(rows, row_len, self._pad_id),
            np.asarray([len(row) for row in rows], np.int32),
            self._pages.page_len,
        )

    def _observe(
        self,
        params,
        observations: Mapping[int, Sequence[int]],
        stop_states: Mapping[int, int],
        row_len: int,
        num_rows: int,
        num_pages: int,
    ) -> None:
        num_padded = num_rows - len(observations)
        rows = [*observations.values(), *[[]] * num_padded]
        self._slots = self._programs.observe(
            params,
            self._slots,
            self._padded_rows(observations, num_rows),
            self._pages.rows(list(observations), num_rows, num_pages),
            pad_rows(rows, row_len, self._pad_id),
            np.asarray([len(row) for row in rows], np.int32),
            np.asarray(
                [*(stop_states[slot] for slot in observations), *[0] * num_padded],
                np.int32,
            ),
        )

    def _decode(
        self,
        params,
        temperature: float,
        slots: Sequence[int],
        num_rows: int,
        read_end: int,
        max_steps: int,
    ) -> None:
        self._slots, self._steps = self._programs.decode(
            params,
            self._slots,
            self._padded_rows(slots, num_rows),
            self._pages.rows(slots, num_rows),
            self._table,
            np.float32(temperature),
            np.int32(num_enough(len(slots))),
            np.int32(max_steps),
            read_end,
        )

    def _padded_rows(self, slots: Iterable[int], num_rows: int | None = None):
        """Slot numbers, padded with a number that is not a slot."""
        slots = list(slots)
        num_rows = self._num_slots if num_rows is None else num_rows
        return np.asarray(
            [*slots, *[self._num_slots] * (num_rows - len(slots))], np.int32
        )
