"""The shapes that a sampler's programs are compiled for, and how its cache is cut."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from jaxsearch.models.architecture import Architecture
from jaxsearch.rollout.budgets import Budgets, buckets

# Tokens of observations that are fed at once: enough for the products to run near the
# machine's rate, few enough that a batch is seldom padded with empty rows. Two CPU
# cores reach three quarters of their best rate at 192 rows; 128 rollouts through 32
# slots spent 4.6 s on appends with 192, 5.5 with 384, 6.9 with 512. An accelerator
# needs more rows than that to be busy.
_APPENDED_TOKENS_ON_CPU = 192
_APPENDED_TOKENS = 2048
# As many rows as one stop of decoding brings are appended by a program of their own if
# the other has so many times more (8 slots, observations of 32 tokens, one rollout in
# twenty four times as long: 14.7 s of appends without, 5.3 s with).
_LEAST_SAVING = 2
# Tokens in a page: few waste little at a row's end, many make larger products. On two
# CPU cores 64 and 128 did alike; a TPU's lanes are 128 wide.
_PAGE_LEN_ON_CPU = 64
_PAGE_LEN = 128
# The cache may be read up to each of these shares of its pages, if all slots decode.
_PARTS = (0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
# Decoding is compiled for all slots, and for these shares of them, which read up to
# fewer ends: a batch that drains need not be computed whole.
_FEWER_ROWS = (0.25, 0.5)
_PARTS_OF_FEWER_ROWS = (0.375, 1.0)
# Below so many tokens of a part, and slots, there is nothing to win and one more
# program to compile.
_LEAST_PART_LEN = 1024
_LEAST_ROWS = 8


@dataclass(frozen=True)
class Shapes:
    """Everything that follows from the limits, the network and the kind of device."""

    budgets: Budgets
    architecture: Architecture
    backend: str  # as `jax.default_backend` names it

    @property
    def page_len(self) -> int:
        """W, tokens in a page."""
        by_device = _PAGE_LEN_ON_CPU if self.backend == "cpu" else _PAGE_LEN
        return self.budgets.page_len or by_device

    @property
    def num_pages(self) -> int:
        """Of the whole cache."""
        budgets = self.budgets
        num_pages = budgets.num_slots * -(-budgets.max_len // self.page_len)
        if budgets.cache_len is not None:
            num_pages = min(num_pages, -(-budgets.cache_len // self.page_len))
        return num_pages

    @property
    def has_kernel(self) -> bool:
        """Whether JAX's paged attention can run: on TPUs, with heads of whole lanes.

        It reads the pages that rows own, so the cache need not be cut into parts.
        """
        return self.backend == "tpu" and self.architecture.head_width % 128 == 0

    @functools.cached_property
    def part_ends(self) -> tuple[int, ...]:
        """Pages up to which the cache may be read."""
        parts = (1.0,) if self.has_kernel else _PARTS
        return _shares(parts, self.num_pages, self._least_part)

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """Pages in each part."""
        starts = (0, *self.part_ends)
        return tuple(end - start for start, end in itertools.pairwise(starts))

    @functools.cached_property
    def read_ends(self) -> Mapping[int, tuple[int, ...]]:
        """For each number of rows that may decode, the part ends it may read up to."""
        of_fewer = _shares(_PARTS_OF_FEWER_ROWS, self.num_pages, self._least_part)
        ends = tuple(end for end in self.part_ends if end in of_fewer)
        *fewer, num_slots = _shares(_FEWER_ROWS, self.budgets.num_slots, _LEAST_ROWS)
        return {**dict.fromkeys(fewer, ends), num_slots: self.part_ends}

    @functools.cached_property
    def prompt_lens(self) -> tuple[int, ...]:
        """Lengths that prompts are padded to."""
        return buckets(self.budgets.max_prompt_len)

    @functools.cached_property
    def append_rows(self) -> Mapping[int, tuple[int, ...]]:
        """Lengths that observations are padded to, and rows appended at once."""
        by_device = self.backend == "cpu"
        tokens = _APPENDED_TOKENS_ON_CPU if by_device else _APPENDED_TOKENS
        rows = {}
        for row_len in buckets(self.budgets.max_observation_len):
            most = min(self.budgets.num_slots, max(1, tokens // row_len))
            has_fewer = self.num_enough * _LEAST_SAVING <= most
            rows[row_len] = (self.num_enough, most) if has_fewer else (most,)
        return rows

    @property
    def num_enough(self) -> int:
        """Slots for which decoding stops once they have stopped.

        Fewer make more calls with emptier appends: of 32 slots 1, 2, 4 and 8 took
        10.3, 9.5, 9.3 and 9.4 s.
        """
        return max(1, self.budgets.num_slots // 8)

    @functools.cached_property
    def row_pages(self) -> tuple[int, ...]:
        """Pages of a row that an append may read."""
        sizes = buckets(self.budgets.max_len)
        return tuple(sorted({-(-size // self.page_len) for size in sizes}))

    @property
    def _least_part(self) -> int:
        return -(-_LEAST_PART_LEN // self.page_len)


def shapes_here(budgets: Budgets, architecture: Architecture) -> Shapes:
    """The shapes on the devices that there are."""
    return Shapes(budgets, architecture, jax.default_backend())


def _shares(shares: Sequence[float], total: int, least: int) -> tuple[int, ...]:
    """Each share of the total, but none within `least` of the one before; the total."""
    chosen = []
    for share in shares:
        part = math.ceil(share * total)
        if part >= least + (chosen[-1] if chosen else 0) and part + least <= total:
            chosen.append(part)
    return (*chosen, total)
