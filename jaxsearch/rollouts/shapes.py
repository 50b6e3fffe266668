"""The shapes that a sampler's programs are compiled for, and its cache segments."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.cache import empty_cache
from jaxsearch.models.kernels import DecodeKernel
from jaxsearch.models.page_attention import PLAIN_PAGES
from jaxsearch.models.transformer import Transformer
from jaxsearch.rollouts.budgets import Budgets, buckets
from jaxsearch.rollouts.slots import Slots, empty_slots

# Observation tokens appended at once: enough for matrix products near the peak rate,
# but few enough that batches are rarely padded with empty rows. Two CPU cores reach
# three quarters of their best rate at 192; accelerators need more to be busy.
_APPENDED_TOKENS_ON_CPU = 192
_APPENDED_TOKENS = 2048
# A second append program, for the number of rows at which decoding stops, is compiled
# if the full batch has at least this many times more rows.
_MIN_SAVING = 2
# Tokens per page: short pages waste less at the end of a row, long pages give larger
# matrix products. On two CPU cores 64 and 128 were equally fast; a TPU has 128 lanes.
_PAGE_LEN_ON_CPU = 64
_PAGE_LEN = 128
# Shares of the cache's pages that may be read if all slots decode.
_SEGMENT_SHARES = (0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
# Fewer for a few slots: more pages add little time to a step, and each segment adds two
# arrays per layer to every program.
_FEW_SLOTS = 8
_SEGMENT_SHARES_OF_FEW = (0.25, 0.5, 1.0)
# Decoding is compiled for all slots and for these shares of them, with fewer read
# lengths, so that a draining batch does not cost as much as a full one.
_FEWER_ROWS = (0.25, 0.5)
_SEGMENT_SHARES_IF_FEWER = (0.375, 1.0)
# Smaller segments (in tokens) or fewer rows save nothing and cost another program.
_MIN_SEGMENT_LEN = 1024
_MIN_ROWS = 8
# A program takes seconds to compile, whatever the size of the network. It must save
# about a millisecond per step: reading this many numbers of the cache, or multiplying
# this many weights with a row.
_MIN_SAVED_READS = 2**22
_MIN_SAVED_PRODUCTS = 2**26


@dataclass(frozen=True)
class Shapes:
    """The shapes that follow from budgets, device, network and decode kernel."""

    budgets: Budgets
    backend: str  # as returned by `jax.default_backend`
    architecture: Architecture
    kernel: DecodeKernel = PLAIN_PAGES

    @property
    def page_len(self) -> int:
        """W, tokens per page."""
        by_device = _PAGE_LEN_ON_CPU if self.backend == "cpu" else _PAGE_LEN
        return self.budgets.page_len or by_device

    @property
    def num_pages(self) -> int:
        """Pages in the whole cache."""
        budgets = self.budgets
        num_pages = budgets.num_slots * -(-budgets.max_len // self.page_len)
        if budgets.cache_len is not None:
            num_pages = min(num_pages, -(-budgets.cache_len // self.page_len))
        return num_pages

    @functools.cached_property
    def segment_ends(self) -> tuple[int, ...]:
        """Page counts that a step may read, from the beginning of the cache."""
        shares = _SEGMENT_SHARES
        if self.kernel.reads_owned_pages:
            shares = (1.0,)
        elif self.budgets.num_slots <= _FEW_SLOTS:
            shares = _SEGMENT_SHARES_OF_FEW
        return _shares(shares, self.num_pages, self._min_segment)

    @property
    def segment_sizes(self) -> tuple[int, ...]:
        """Pages in each cache segment.

        A kernel that copies a row's pages reads one segment, because programs with
        fewer arrays compile and load faster.
        """
        if self.kernel.copies_pages:
            return (self.num_pages,)
        starts = (0, *self.segment_ends)
        return tuple(end - start for start, end in itertools.pairwise(starts))

    @functools.cached_property
    def read_ends(self) -> Mapping[int, tuple[int, ...]]:
        """The `segment_ends` compiled for each number of decoding rows."""
        wanted = _shares(_SEGMENT_SHARES_IF_FEWER, self.num_pages, self._min_segment)
        ends = tuple(end for end in self.segment_ends if end in wanted)
        least = max(_MIN_ROWS, _MIN_SAVED_PRODUCTS // self.architecture.num_parameters)
        *fewer, num_slots = _shares(_FEWER_ROWS, self.budgets.num_slots, least)
        return {**dict.fromkeys(fewer, ends), num_slots: self.segment_ends}

    @functools.cached_property
    def prompt_lens(self) -> tuple[int, ...]:
        """Lengths that prompts are padded to."""
        return buckets(self.budgets.max_prompt_len)

    @functools.cached_property
    def append_rows(self) -> Mapping[int, tuple[int, ...]]:
        """Row counts compiled for each length that observations are padded to."""
        by_device = self.backend == "cpu"
        tokens = _APPENDED_TOKENS_ON_CPU if by_device else _APPENDED_TOKENS
        rows = {}
        for row_len in buckets(self.budgets.max_observation_len):
            most = min(self.budgets.num_slots, max(1, tokens // row_len))
            few = num_enough(self.budgets.num_slots)
            rows[row_len] = (few, most) if few * _MIN_SAVING <= most else (most,)
        return rows

    @functools.cached_property
    def row_pages(self) -> tuple[int, ...]:
        """Page counts per row that an append may read."""
        sizes = buckets(self.budgets.max_len)
        return tuple(sorted({-(-size // self.page_len) for size in sizes}))

    @property
    def _min_segment(self) -> int:
        a = self.architecture
        per_token = 2 * a.num_layers * a.num_kv_heads * a.head_width
        least = max(_MIN_SEGMENT_LEN, _MIN_SAVED_READS // per_token)
        return -(-least // self.page_len)


def num_enough(num_slots: int) -> int:
    """Number of stopped slots at which a call of `decode` with these slots returns.

    A smaller share makes more calls with emptier appends; with 32 slots, 4 was the
    fastest. It is a share of those that decode: at the end of a batch an eighth of all
    slots may be every one that is left, and each would wait for the last.
    """
    return max(1, num_slots // 8)


def local_shapes(budgets: Budgets, transformer: Transformer) -> Shapes:
    """The shapes for the devices of this process."""
    return Shapes(
        budgets,
        jax.default_backend(),
        transformer.architecture,
        transformer.decode_kernel,
    )


def _shares(shares: Sequence[float], total: int, spacing: int) -> tuple[int, ...]:
    """Shares of the total that are at least `spacing` apart, followed by the total."""
    chosen = []
    for share in shares:
        count = math.ceil(share * total)
        previous = chosen[-1] if chosen else 0
        if previous + spacing <= count <= total - spacing:
            chosen.append(count)
    return (*chosen, total)


def initial_slots(shapes: Shapes, transformer: Transformer) -> Slots:
    """Free slots and an empty cache with these shapes."""
    cache = empty_cache(
        transformer.architecture,
        shapes.segment_sizes,
        shapes.page_len,
        transformer.dtype,
        transformer.decode_kernel.layout,
    )
    return empty_slots(shapes.budgets.num_slots, shapes.budgets.max_len, cache)
