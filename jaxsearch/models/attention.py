"""Attention of grouped query heads."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from jaxsearch.models.cache import KernelPages, Pages

# Of a score that does not count. Finite: a row in which none counts stays finite too.
_HIDDEN = -1e30
_PAGES_AT_ONCE = 4  # of 128 tokens: what the paged attention kernel computes together


def attend(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B K H S"],
    value: Float[Array, "B K S H"],
    is_visible: Bool[Array, "B T S"],
) -> Float[Array, "B T N H"]:
    """Softmax attention, in float32 between the two products.

    Query head n reads key/value head n // (N / K). A query that sees nothing
    gets the mean of the values (finite, and read by nobody).
    """
    B, T, N, H = query.shape
    K = key.shape[1]
    G = N // K
    # Both products with one batch of plain matrices [G T, .]: with G and T as axes of
    # their own XLA's CPU compiler transposes the keys and values first (a step of
    # decoding: 54 ms so, 20 ms like this).
    query = query.reshape(B, T, K, G, H) * jnp.asarray(H**-0.5, query.dtype)
    query = query.transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, H)
    scores = jnp.einsum(
        "BKQH,BKHS->BKQS", query, key, preferred_element_type=jnp.float32
    )
    scores = scores.reshape(B, K, G, T, -1)
    scores = jnp.where(is_visible[:, None, None], scores, jnp.float32(_HIDDEN))
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    out = jnp.einsum("BKQS,BKSH->BKQH", weights.reshape(B, K, G * T, -1), value)
    out = out.reshape(B, K, G, T, H).transpose(0, 3, 1, 2, 4)
    return out.reshape(B, T, N, H)


def attend_pages(
    query: Float[Array, "R N H"],
    cache: tuple[Pages, ...],
    owners: Int[Array, " P"],
    num_visible: Int[Array, " P"],
    pages: Int[Array, "R M"],
) -> Float[Array, "R N H"]:
    """Attention of one token a row to the pages that its row owns.

    Queries go to the pages, not pages to the queries: page p is multiplied with the
    query of its owner, where it lies, and the P partial results, each with its own
    maximum, are joined row by row. So each page is read once, in order, however long
    its row is, and a row's result depends neither on where its pages lie nor on
    other rows.

    Args:
      cache: the parts to read, P pages in all.
      owners: row of each page; anything where `num_visible` is 0.
      num_visible: tokens of each page that count, from its first.
      pages: of each row, in order of positions; P and more: none.
    """
    R, N, H = query.shape
    K, W = cache[0].keys.shape[1], cache[0].page_len
    query = (query * jnp.asarray(H**-0.5, query.dtype)).reshape(R, K, N // K, H)
    is_visible = jnp.arange(W)[None] < num_visible[:, None]
    tops, totals, sums, start = [], [], [], 0
    for part in cache:
        end = start + part.num_pages
        scores = jnp.einsum(
            "PKGH,PKHW->PKGW",
            query.at[owners[start:end]].get(mode="clip"),
            part.keys.astype(query.dtype),
            preferred_element_type=jnp.float32,
        )
        scores = jnp.where(
            is_visible[start:end, None, None], scores, jnp.float32(_HIDDEN)
        )
        top = scores.max(axis=-1)
        weights = jnp.exp(scores - top[..., None])
        tops.append(top)
        totals.append(weights.sum(axis=-1))
        sums.append(
            jnp.einsum(
                "PKGW,PKWH->PKGH",
                weights.astype(query.dtype),
                part.values.astype(query.dtype),
                preferred_element_type=jnp.float32,
            )
        )
        start = end
    tops, totals, sums = (jnp.concatenate(x) for x in (tops, totals, sums))
    is_page = (pages < start)[:, :, None, None]
    tops = jnp.where(is_page, tops.at[pages].get(mode="clip"), jnp.float32(_HIDDEN))
    shares = jnp.exp(tops - tops.max(axis=1, keepdims=True))
    shares = jnp.where(is_page, shares, 0)
    total = (shares * totals.at[pages].get(mode="clip")).sum(axis=1)
    out = (shares[..., None] * sums.at[pages].get(mode="clip")).sum(axis=1)
    # A row without pages has no total; nobody reads what it gets.
    out = out / jnp.maximum(total, 1e-30)[..., None]
    return out.reshape(R, N, H).astype(query.dtype)


def attend_kernel(
    query: Float[Array, "R N H"],
    cache: KernelPages,
    num_visible: Int[Array, " R"],
    pages: Int[Array, "R M"],
) -> Float[Array, "R N H"]:
    """What `attend_pages` computes, by JAX's paged attention kernel for TPUs.

    It moves the pages that rows own, whatever else the cache holds.

    Args:
      num_visible: tokens of each row that count.
    """
    from jax.experimental.pallas.ops.tpu.paged_attention import paged_attention

    # The kernel takes pages in blocks that must divide their number, and reads the
    # index of each: any that exists will do where a row owns none.
    at_once = min(_PAGES_AT_ONCE, pages.shape[1])
    pages = jnp.where(pages < cache.num_pages, pages, 0)
    pages = jnp.pad(pages, ((0, 0), (0, -pages.shape[1] % at_once)))
    return paged_attention(
        query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype),
        cache.keys,
        cache.values,
        num_visible,
        pages,
        pages_per_compute_block=at_once,
    ).astype(query.dtype)


def attend_kernel_by_heads(
    mesh: AbstractMesh,
    query: Float[Array, "R N H"],
    cache: KernelPages,
    num_visible: Int[Array, " R"],
    pages: Int[Array, "R M"],
) -> Float[Array, "R N H"]:
    """`attend_kernel` run by each device on its own heads: XLA cannot cut a kernel."""
    [axis] = mesh.axis_names
    heads = PartitionSpec(None, axis)
    # check_vma: kernels do not say which axes their outputs vary over.
    return jax.shard_map(
        attend_kernel,
        mesh=mesh,
        in_specs=(heads, PartitionSpec(axis), PartitionSpec(), PartitionSpec()),
        out_specs=heads,
        check_vma=False,
    )(query, cache, num_visible, pages)
