"""Decode attention of a single row, whose pages are copied together at each step."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsearch.models.attention import attend
from jaxsearch.models.cache import PageReads, Pages, gather
from jaxsearch.models.kernels import DecodeKernel


def attend_copied(
    query: Float[Array, "R N H"],
    segments: tuple[Pages, ...],
    reads: PageReads,
    window: int | None = None,
) -> Float[Array, "R N H"]:
    """Attention of one token per row to a copy of the row's pages.

    It takes half as many operations as `attend_pages`, and so half as long to compile
    and load. That counts for one question; the copy costs more in a long batch.
    """
    keys, values = gather(segments, reads.pages)
    keys, values = keys.astype(query.dtype), values.astype(query.dtype)
    positions, lengths = jnp.arange(keys.shape[-1])[None], reads.lengths[:, None]
    is_visible = positions < lengths
    if window is not None:
        is_visible &= positions >= lengths - window
    # An earlier rollout may have left NaN after a row's end, and 0 * NaN is NaN.
    values = jnp.where(is_visible[:, None, :, None], values, 0)
    return attend(query[:, None], keys, values, is_visible[:, None])[:, 0]


COPIED_PAGES = DecodeKernel(
    name="copied", layout=Pages, attend=attend_copied, copies_pages=True, is_xla=True
)
