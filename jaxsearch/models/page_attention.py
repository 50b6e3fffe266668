"""Decode attention to cached pages in plain XLA, for every platform and dtype."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsearch.models.attention import HIDDEN
from jaxsearch.models.cache import PageReads, Pages
from jaxsearch.models.kernels import DecodeKernel


def attend_pages(
    query: Float[Array, "R N H"],
    segments: tuple[Pages, ...],
    reads: PageReads,
    window: int | None = None,
) -> Float[Array, "R N H"]:
    """Attention of one token per row to the pages that the row owns.

    Each page receives a copy of its owner's query, instead of pages being copied to
    queries. The partial results of the P pages in `segments`, each with a separate
    maximum, are combined row by row. Each page is therefore read once, in order,
    however long its row is, and a row's result depends neither on where its pages are
    stored nor on other rows.
    """
    R, N, H = query.shape
    K, W = segments[0].keys.shape[1], segments[0].page_len
    query = (query * jnp.asarray(H**-0.5, query.dtype)).reshape(R, K, N // K, H)
    is_visible = _is_visible(reads, W, window)
    tops, totals, sums, start = [], [], [], 0
    for segment in segments:
        end = start + segment.num_pages
        scores = jnp.einsum(
            "PKGH,PKHW->PKGW",
            query.at[reads.owners[start:end]].get(mode="clip"),
            segment.keys.astype(query.dtype),
            preferred_element_type=jnp.float32,
        )
        scores = jnp.where(
            is_visible[start:end, None, None], scores, jnp.float32(HIDDEN)
        )
        top = scores.max(axis=-1)
        weights = jnp.exp(scores - top[..., None])
        tops.append(top)
        totals.append(weights.sum(axis=-1))
        sums.append(
            jnp.einsum(
                "PKGW,PKWH->PKGH",
                weights.astype(query.dtype),
                segment.values.astype(query.dtype),
                preferred_element_type=jnp.float32,
            )
        )
        start = end
    tops, totals, sums = (jnp.concatenate(x) for x in (tops, totals, sums))
    pages = reads.pages
    is_page = (pages < start)[:, :, None, None]
    tops = jnp.where(is_page, tops.at[pages].get(mode="clip"), jnp.float32(HIDDEN))
    shares = jnp.exp(tops - tops.max(axis=1, keepdims=True))
    shares = jnp.where(is_page, shares, 0)
    total = (shares * totals.at[pages].get(mode="clip")).sum(axis=1)
    out = (shares[..., None] * sums.at[pages].get(mode="clip")).sum(axis=1)
    # Avoids 0 / 0 for a row without pages, whose result is not used.
    out = out / jnp.maximum(total, 1e-30)[..., None]
    return out.reshape(R, N, H).astype(query.dtype)


def _is_visible(reads: PageReads, page_len: int, window: int | None) -> Array:
    """Mask [P W] of the tokens in each page that the owner attends to."""
    offsets = jnp.arange(page_len)[None]
    is_visible = offsets < reads.num_visible[:, None]
    if window is not None:
        ends = reads.lengths.at[reads.owners].get(mode="clip")
        is_visible &= offsets >= (ends - window - reads.starts)[:, None]
    return is_visible


PLAIN_PAGES = DecodeKernel(name="plain", layout=Pages, attend=attend_pages, is_xla=True)
