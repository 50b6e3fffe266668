"""Decode attention to cached pages in plain XLA, for every platform and dtype."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxsearch.models.attention import HIDDEN
from jaxsearch.models.cache import PageReads, Pages, gather
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

    What is not attended to is excluded by selection and not only by a weight of 0,
    because an earlier rollout may have left NaN there, and 0 * NaN is NaN.
    """
    R, N, H = query.shape
    K, W = segments[0].keys.shape[1], segments[0].page_len
    query = (query * jnp.asarray(H**-0.5, query.dtype)).reshape(R, K, N // K, H)
    is_visible = _is_visible(reads, W, window)
    parts, start = [], 0
    for segment in segments:
        here = slice(start, start + segment.num_pages)
        queries = query.at[reads.owners[here]].get(mode="clip")
        parts.append(_attended(queries, segment, is_visible[here]))
        start = here.stop
    tops, totals, weights, sums = map(jnp.concatenate, zip(*parts, strict=True))
    low, high = _visible_numbers(reads, W, window)
    pages, numbers = reads.pages, jnp.arange(reads.pages.shape[1])[None]
    is_page = (pages < start) & (numbers >= low) & (numbers <= high)
    sums = sums.at[pages].get(mode="clip")
    # Only a row's first and last pages may have tokens that it does not attend to.
    for number in (high,) if window is None else (low, high):
        page = jnp.take_along_axis(pages, number, axis=1)[:, 0]
        part = _selected_sum(weights, segments, is_visible, page)
        is_number = (numbers == number)[:, :, None, None, None]
        sums = jnp.where(is_number, part[:, None], sums)
    is_page = is_page[:, :, None, None]
    tops = jnp.where(is_page, tops.at[pages].get(mode="clip"), jnp.float32(HIDDEN))
    shares = jnp.exp(tops - tops.max(axis=1, keepdims=True))
    shares = jnp.where(is_page, shares, 0)
    totals = jnp.where(is_page, totals.at[pages].get(mode="clip"), 0)
    sums = jnp.where(is_page[..., None], sums, 0)
    # Avoids 0 / 0 for a row without pages, whose result is not used.
    total = jnp.maximum((shares * totals).sum(axis=1), 1e-30)
    out = (shares[..., None] * sums).sum(axis=1) / total[..., None]
    return out.reshape(R, N, H).astype(query.dtype)


def _attended(
    query: Float[Array, "P K G H"], pages: Pages, is_visible: Bool[Array, "P W"]
) -> tuple[Array, Array, Array, Array]:
    """Maximum, total, weights and weighted sum of the values in each page."""
    scores = jnp.einsum(
        "PKGH,PKHW->PKGW",
        query,
        pages.keys.astype(query.dtype),
        preferred_element_type=jnp.float32,
    )
    scores = jnp.where(is_visible[:, None, None], scores, jnp.float32(HIDDEN))
    top = scores.max(axis=-1)
    weights = jnp.exp(scores - top[..., None])
    total, weights = weights.sum(axis=-1), weights.astype(query.dtype)
    values = pages.values.astype(query.dtype)
    return top, total, weights, _weighted(weights, values)


def _weighted(
    weights: Float[Array, "P K G W"], values: Float[Array, "P K W H"]
) -> Float[Array, "P K G H"]:
    return jnp.einsum(
        "PKGW,PKWH->PKGH", weights, values, preferred_element_type=jnp.float32
    )


def _visible_numbers(
    reads: PageReads, page_len: int, window: int | None
) -> tuple[Array, Array]:
    """The numbers [R 1] of the first and last page that each row attends to."""
    lengths = reads.lengths[:, None]
    starts = jnp.zeros_like(lengths) if window is None else lengths - window
    return starts.clip(0) // page_len, (lengths - 1).clip(0) // page_len


def _selected_sum(
    weights: Float[Array, "P K G W"],
    segments: tuple[Pages, ...],
    is_visible: Bool[Array, "P W"],
    page: Int[Array, " R"],
) -> Float[Array, "R K G H"]:
    """The weighted sum of the visible values in one page of each row.

    To select in every page would copy all values in every step on CPUs.
    """
    _, values = gather(segments, page[:, None])
    is_shown = is_visible.at[page].get(mode="fill", fill_value=False)
    values = jnp.where(is_shown[:, None, :, None], values.astype(weights.dtype), 0)
    return _weighted(weights.at[page].get(mode="fill", fill_value=0), values)


def _is_visible(reads: PageReads, page_len: int, window: int | None) -> Array:
    """Mask [P W] of the tokens in each page that the owner attends to."""
    offsets = jnp.arange(page_len)[None]
    is_visible = offsets < reads.num_visible[:, None]
    if window is not None:
        ends = reads.lengths.at[reads.owners].get(mode="clip")
        is_visible &= offsets >= (ends - window - reads.starts)[:, None]
    return is_visible


PLAIN_PAGES = DecodeKernel(name="plain", layout=Pages, attend=attend_pages, is_xla=True)
