"""Keys and values kept between calls, in pages that rollouts own."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsearch.models.architecture import Architecture

NO_PAGE = 2**31 - 1  # beyond every cache: what is written there is dropped


class Pages(NamedTuple):
    """N pages of W tokens of one layer: keys [N K H W], values [N K W H].

    In this layout both products of decoding read memory in order (positions
    innermost for keys: on two CPU cores half the time of a step against [W K H]).
    """

    keys: Array
    values: Array

    @property
    def num_pages(self) -> int:
        return self.values.shape[0]

    @property
    def heads_axis(self) -> int:
        return 1

    @property
    def page_len(self) -> int:
        return self.values.shape[2]

    def write(self, index: Array, offsets: Array, key: Array, value: Array) -> "Pages":
        # The two indices stand around a slice, so their axes come first: [R T K H].
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
        """Zeros where a page is not here."""
        return Pages(
            keys=self.keys.at[index].get(mode="fill", fill_value=0),
            values=self.values.at[index].get(mode="fill", fill_value=0),
        )


class KernelPages(NamedTuple):
    """The same as [K N W H], both: what JAX's paged attention for TPUs reads."""

    keys: Array
    values: Array

    @property
    def num_pages(self) -> int:
        return self.values.shape[1]

    @property
    def heads_axis(self) -> int:
        return 0

    @property
    def page_len(self) -> int:
        return self.values.shape[2]

    def _heads(self, num_others: int) -> Array:
        """Every head, before `num_others` axes of other indices.

        Written as `[:, index]`, two heads or more would lie innermost, and XLA would
        turn the whole cache round for the kernel in every step.
        """
        heads = jnp.arange(self.keys.shape[0])
        return heads.reshape(-1, *(1,) * num_others)

    def write(
        self, index: Array, offsets: Array, key: Array, value: Array
    ) -> "KernelPages":
        new = (jnp.einsum("RTKH->KRTH", key), jnp.einsum("RTKH->KRTH", value))
        return KernelPages(
            *(
                old.at[self._heads(2), index, offsets].set(x, mode="drop")
                for old, x in zip(self, new, strict=True)
            )
        )

    def put(self, index: Array, new: Pages) -> "KernelPages":
        keys = jnp.einsum("NKHW->KNWH", new.keys)
        values = jnp.einsum("NKWH->KNWH", new.values)
        return KernelPages(
            keys=self.keys.at[self._heads(1), index].set(keys, mode="drop"),
            values=self.values.at[self._heads(1), index].set(values, mode="drop"),
        )

    def gather(self, index: Array) -> Pages:
        """Zeros where a page is not here."""
        keys, values = (
            x.at[self._heads(2), index].get(mode="fill", fill_value=0)
            for x in (self.keys, self.values)
        )
        return Pages(
            keys=jnp.einsum("KRMWH->RMKHW", keys),
            values=jnp.einsum("KRMWH->RMKWH", values),
        )


# The pages of a layer lie in parts, one after the other, so that a step may read only
# the first of them: a slice of one large array would be copied before each product
# (two CPU cores, 100 pages of 128 tokens in 8 layers: 50 ms against 10). For the same
# reason each layer has arrays of its own.
LayerCache = tuple[Pages | KernelPages, ...]
Cache = tuple[LayerCache, ...]


def empty_cache(
    architecture: Architecture,
    part_sizes: tuple[int, ...],
    page_len: int,
    dtype: DTypeLike,
    *,
    is_for_kernel: bool = False,
) -> Cache:
    """Pages of zeros for every layer, `part_sizes` of them in each part."""
    K, H, W = architecture.num_kv_heads, architecture.head_width, page_len

    def part(size: int) -> Pages | KernelPages:
        if is_for_kernel:
            return KernelPages(*(jnp.zeros((K, size, W, H), dtype) for _ in range(2)))
        return Pages(
            jnp.zeros((size, K, H, W), dtype), jnp.zeros((size, K, W, H), dtype)
        )

    return tuple(
        tuple(part(size) for size in part_sizes) for _ in range(architecture.num_layers)
    )


def paged(key: Array, value: Array, page_len: int) -> Pages:
    """Keys and values [R T K H] of whole rows as pages, R x ceil(T / W) of them."""
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

    A page beyond the cache is dropped: that is how padding is skipped.
    """
    key = key.astype(cache[0].keys.dtype)
    value = value.astype(cache[0].values.dtype)
    return tuple(
        part.write(index, offsets, key, value)
        for part, index in zip(cache, _part_indices(cache, pages), strict=True)
    )


def put(cache: LayerCache, pages: Array, new: Pages) -> LayerCache:
    """Replaces page pages[n] by new page n; a page beyond the cache is dropped."""
    return tuple(
        part.put(index, new)
        for part, index in zip(cache, _part_indices(cache, pages), strict=True)
    )


def gather(cache: LayerCache, pages: Array) -> tuple[Array, Array]:
    """Keys [R K H S] and values [R K S H] of rows whose pages [R M] are named.

    S = M W. A page beyond the cache reads as zeros.
    """
    R, M = pages.shape
    found = [
        part.gather(index)
        for part, index in zip(cache, _part_indices(cache, pages), strict=True)
    ]
    # A page lies in one part only, so the sum is a choice.
    keys, values = sum(x.keys for x in found), sum(x.values for x in found)
    K, H, W = keys.shape[2:]
    keys = jnp.einsum("RMKHW->RKHMW", keys).reshape(R, K, H, M * W)
    values = jnp.einsum("RMKWH->RKMWH", values).reshape(R, K, M * W, H)
    return keys, values


def _part_indices(cache: LayerCache, pages: Array) -> list[Array]:
    """For each part the index of a page in it; its size if the page is elsewhere."""
    indices, start = [], 0
    for part in cache:
        index = pages - start
        is_here = (index >= 0) & (index < part.num_pages)
        indices.append(jnp.where(is_here, index, part.num_pages))
        start += part.num_pages
    return indices
