"""Paged key/value cache; every page is owned by one rollout.

The pages of a layer are stored in a few consecutive segments, so that a step can read
only the first ones: XLA would copy a slice of one large array before each product. For
the same reason each layer has separate arrays.
"""

import itertools
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsearch.models.architecture import Architecture

NO_PAGE = 2**31 - 1  # beyond every cache: writes to it are dropped


@runtime_checkable
class PageLayout(Protocol):
    """How the pages of one cache segment are stored: a pytree of arrays.

    Every decode kernel defines one. In all arrays, axis `heads_axis` is the key/value
    heads; devices that share a copy of the policy split the arrays along it.
    """

    @classmethod
    def zeros(
        cls,
        num_pages: int,
        num_kv_heads: int,
        head_width: int,
        page_len: int,
        dtype: DTypeLike,
    ) -> "PageLayout":
        """Pages of zeros."""
        ...

    @property
    def num_pages(self) -> int: ...

    @property
    def page_len(self) -> int:
        """W, tokens in a page."""
        ...

    @property
    def heads_axis(self) -> int: ...

    def write(
        self, index: Array, offsets: Array, key: Array, value: Array
    ) -> "PageLayout":
        """Writes key and value [R T K H] to page index[r, t] at offsets[r, t].

        Writes to pages outside this segment are dropped.
        """
        ...

    def put(self, index: Array, new: "Pages") -> "PageLayout":
        """Replaces page index[n] by new page n; drops pages outside this segment."""
        ...

    def gather(self, index: Array) -> "Pages":
        """The pages [R M] in the layout `Pages`; zeros outside this segment."""
        ...


class Pages(NamedTuple):
    """The layout for plain XLA: keys [N K H W], values [N K W H] of N pages.

    With this layout both matrix products of decoding read memory sequentially. A step
    took half as long as with keys as [W K H], on two CPU cores.
    """

    keys: Array
    values: Array

    @classmethod
    def zeros(
        cls,
        num_pages: int,
        num_kv_heads: int,
        head_width: int,
        page_len: int,
        dtype: DTypeLike,
    ) -> "Pages":
        N, K, H, W = num_pages, num_kv_heads, head_width, page_len
        return cls(jnp.zeros((N, K, H, W), dtype), jnp.zeros((N, K, W, H), dtype))

    @property
    def num_pages(self) -> int:
        return self.values.shape[0]

    @property
    def page_len(self) -> int:
        return self.values.shape[2]

    @property
    def heads_axis(self) -> int:
        return 1

    def write(self, index: Array, offsets: Array, key: Array, value: Array) -> "Pages":
        # The two indices are separated by a slice, so their axes come first: [R T K H].
        key, value = key.astype(self.keys.dtype), value.astype(self.values.dtype)
        return Pages(
            keys=self.keys.at[index, :, :, offsets].set(key, mode="drop"),
            values=self.values.at[index, :, offsets].set(value, mode="drop"),
        )

    def put(self, index: Array, new: "Pages") -> "Pages":
        return Pages(
            keys=self.keys.at[index].set(new.keys, mode="drop"),
            values=self.values.at[index].set(new.values, mode="drop"),
        )

    def gather(self, index: Array) -> "Pages":
        return Pages(
            keys=self.keys.at[index].get(mode="fill", fill_value=0),
            values=self.values.at[index].get(mode="fill", fill_value=0),
        )


LayerCache = tuple[Any, ...]  # the segments of a layer, each a PageLayout
Cache = tuple[LayerCache, ...]


class PageReads(NamedTuple):
    """The cached tokens that each row of a decoding step attends to, per row and page.

    Attributes:
      lengths: tokens that a row attends to, including its new one, [R].
      pages: pages of each row in order of positions, [R M], padded with NO_PAGE.
      owners: row that owns a page, [P]; arbitrary where `num_visible` is 0.
      num_visible: number of leading tokens of a page that its owner attends to, [P].
      starts: position of the first token of a page, [P].
    """

    lengths: Array
    pages: Array
    owners: Array
    num_visible: Array
    starts: Array


def page_reads(
    lengths: Array, pages: Array, num_pages: int, page_len: int
) -> PageReads:
    """The `PageReads` of rows with these lengths [R] and pages [R M]."""
    R, M = pages.shape
    rows = jnp.broadcast_to(jnp.arange(R)[:, None], (R, M))
    starts = page_len * jnp.arange(M)[None]
    visible = (lengths[:, None] - starts).clip(0, page_len)

    def by_page(values: Array) -> Array:
        zeros = jnp.zeros(num_pages, jnp.int32)
        return zeros.at[pages].set(values, mode="drop")

    starts = by_page(jnp.broadcast_to(starts, (R, M)))
    return PageReads(lengths, pages, by_page(rows), by_page(visible), starts)


def empty_cache(
    architecture: Architecture,
    segment_sizes: tuple[int, ...],
    page_len: int,
    dtype: DTypeLike,
    layout: type = Pages,
) -> Cache:
    """Pages of zeros for every layer.

    Args:
      segment_sizes: pages in each segment.
      layout: a `PageLayout`.
    """
    K, H = architecture.num_kv_heads, architecture.head_width
    return tuple(
        tuple(layout.zeros(size, K, H, page_len, dtype) for size in segment_sizes)
        for _ in range(architecture.num_layers)
    )


def paged(key: Array, value: Array, page_len: int) -> Pages:
    """Keys and values [R T K H] of whole rows, as R x ceil(T / W) pages."""
    R, T, K, H = key.shape
    padding = ((0, 0), (0, -T % page_len), (0, 0), (0, 0))
    shape = (-1, page_len, K, H)
    return Pages(
        keys=jnp.einsum("NWKH->NKHW", jnp.pad(key, padding).reshape(shape)),
        values=jnp.einsum("NWKH->NKWH", jnp.pad(value, padding).reshape(shape)),
    )


def write(
    cache: LayerCache, pages: Array, offsets: Array, key: Array, value: Array
) -> LayerCache:
    """Writes key and value [R T K H] to page pages[r, t] at offsets[r, t].

    Writes to a page beyond the cache are dropped, which is how padding is skipped.
    """
    return tuple(
        segment.write(index, offsets, key, value)
        for segment, index in zip(cache, _segment_indices(cache, pages), strict=True)
    )


def put(cache: LayerCache, pages: Array, new: Pages) -> LayerCache:
    """Replaces page pages[n] by new page n; a page beyond the cache is dropped."""
    return tuple(
        segment.put(index, new)
        for segment, index in zip(cache, _segment_indices(cache, pages), strict=True)
    )


def num_segments(cache: LayerCache, num_pages: int) -> int:
    """Number of segments, from the first on, that hold the first pages of a layer."""
    ends = itertools.accumulate(segment.num_pages for segment in cache)
    return 1 + sum(end < num_pages for end in ends)


def gather(cache: LayerCache, pages: Array) -> tuple[Array, Array]:
    """Keys [R K H S] and values [R K S H] of rows with the pages [R M].

    S = M W. A page beyond the cache reads as zeros.
    """
    R, M = pages.shape
    found = [
        segment.gather(index)
        for segment, index in zip(cache, _segment_indices(cache, pages), strict=True)
    ]
    # A page is in one segment and reads as zeros from the others, so the sum selects
    # it.
    keys, values = sum(x.keys for x in found), sum(x.values for x in found)
    K, H, W = keys.shape[2:]
    keys = jnp.einsum("RMKHW->RKHMW", keys).reshape(R, K, H, M * W)
    values = jnp.einsum("RMKWH->RKMWH", values).reshape(R, K, M * W, H)
    return keys, values


def _segment_indices(cache: LayerCache, pages: Array) -> list[Array]:
    """Index of each page within each segment; the segment's size if it is elsewhere."""
    indices, start = [], 0
    for segment in cache:
        index = pages - start
        is_here = (index >= 0) & (index < segment.num_pages)
        indices.append(jnp.where(is_here, index, segment.num_pages))
        start += segment.num_pages
    return indices
