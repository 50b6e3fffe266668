"""Decode attention to cached pages on TPUs, by JAX's paged attention (Pallas)."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxsearch.models.cache import PageReads, Pages
from jaxsearch.models.kernels import DecodeKernel, Target

_BLOCK_PAGES = 4  # pages of 128 tokens that the kernel computes together


class TpuPages(NamedTuple):
    """The layout that the kernel reads: keys and values [K N W H] of N pages.

    Only finite numbers are stored (NaN becomes 0), because the kernel gives tokens that
    later rollouts don't attend to a weight of 0, and 0 * NaN is NaN. A token whose
    network is not finite still has a log-prob that is not finite, which names its
    rollout.
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
    ) -> "TpuPages":
        shape = (num_kv_heads, num_pages, page_len, head_width)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    @property
    def num_pages(self) -> int:
        return self.values.shape[1]

    @property
    def page_len(self) -> int:
        return self.values.shape[2]

    @property
    def heads_axis(self) -> int:
        return 0

    def write(
        self, index: Array, offsets: Array, key: Array, value: Array
    ) -> "TpuPages":
        key, value = (jnp.nan_to_num(x.astype(self.keys.dtype)) for x in (key, value))
        new = (jnp.einsum("RTKH->KRTH", key), jnp.einsum("RTKH->KRTH", value))
        return TpuPages(
            *(
                old.at[self._heads(2), index, offsets].set(x, mode="drop")
                for old, x in zip(self, new, strict=True)
            )
        )

    def put(self, index: Array, new: Pages) -> "TpuPages":
        keys = jnp.nan_to_num(jnp.einsum("NKHW->KNWH", new.keys))
        values = jnp.nan_to_num(jnp.einsum("NKWH->KNWH", new.values))
        return TpuPages(
            keys=self.keys.at[self._heads(1), index].set(keys, mode="drop"),
            values=self.values.at[self._heads(1), index].set(values, mode="drop"),
        )

    def gather(self, index: Array) -> Pages:
        keys, values = (
            x.at[self._heads(2), index].get(mode="fill", fill_value=0)
            for x in (self.keys, self.values)
        )
        return Pages(
            keys=jnp.einsum("KRMWH->RMKHW", keys),
            values=jnp.einsum("KRMWH->RMKWH", values),
        )

    def _heads(self, num_others: int) -> Array:
        """The index of every head, followed by `num_others` axes of other indices.

        With `[:, index]`, XLA would make two or more heads the innermost axis, and
        transpose the whole cache for the kernel in every step.
        """
        heads = jnp.arange(self.keys.shape[0])
        return heads.reshape(-1, *(1,) * num_others)


def attend_tpu_pages(
    query: Float[Array, "R N H"],
    segments: tuple[TpuPages, ...],
    reads: PageReads,
    window: int | None = None,
) -> Float[Array, "R N H"]:
    """`attend_pages` without a window; it reads only pages that rows own."""
    from jax.experimental.pallas.ops.tpu.paged_attention import paged_attention

    if window is not None:
        raise ValueError("JAX's paged attention has no window: use plain decoding")
    [cache] = segments
    # The number of pages per row must be a multiple of the block, and every index must
    # be valid, even where a row owns no page.
    block = min(_BLOCK_PAGES, reads.pages.shape[1])
    pages = jnp.where(reads.pages < cache.num_pages, reads.pages, 0)
    pages = jnp.pad(pages, ((0, 0), (0, -pages.shape[1] % block)))
    return paged_attention(
        query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype),
        cache.keys,
        cache.values,
        reads.lengths,
        pages,
        pages_per_compute_block=block,
    ).astype(query.dtype)


def _missing(target: Target) -> str:
    is_met = target.platform == "tpu" and target.head_width % 128 == 0
    if is_met and not target.has_windows:
        return ""
    return "a TPU, heads of a multiple of 128 wide, and no local layers"


TPU_PAGES = DecodeKernel(
    name="tpu_pages",
    layout=TpuPages,
    attend=attend_tpu_pages,
    missing=_missing,
    reads_owned_pages=True,
)
