"""Three ways through the decoder that keep keys and values, for rollouts."""

import functools

import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from jaxsearch.models import cache as kv
from jaxsearch.models.attention import (
    attend,
    attend_kernel,
    attend_kernel_by_heads,
    attend_pages,
)
from jaxsearch.models.row_attention import PerDevice, RowAttention
from jaxsearch.models.transformer import Params, Transformer


def prefill(
    transformer: Transformer, params: Params, tokens: Int[Array, "R T"], page_len: int
) -> tuple[kv.Pages, ...]:
    """Keys and values of whole rows, as R x ceil(T / W) pages of each layer.

    Nothing is read back, so nothing else is computed of the last layer.
    """
    R, T = tokens.shape
    positions = jnp.broadcast_to(jnp.arange(T)[None], (R, T))
    attend_row = _row_attention(transformer)
    pages = []

    def attention(_, query, key, value):
        pages.append(kv.paged(key, value, page_len))
        return attend_row(query, key, value)

    transformer.hidden_with(params, tokens, positions, attention)
    return tuple(pages)


def append(
    transformer: Transformer,
    params: Params,
    tokens: Int[Array, "R T"],
    starts: Int[Array, " R"],
    num_tokens: Int[Array, " R"],
    cache: kv.Cache,
    pages: Int[Array, "R M"],
) -> tuple[Float[Array, "R T D"], kv.Cache]:
    """Final hidden states of some new tokens of some rows, which are cached.

    Row r has `num_tokens[r]` tokens for positions from starts[r]; the rest is padding
    and written nowhere. Each token sees what its row has cached up to itself.
    `pages[r]` are the row's pages in order of positions, up to its last new token.
    """
    page_len = cache[0][0].page_len
    index = jnp.arange(tokens.shape[1])[None]
    positions = starts[:, None] + index
    targets = _page_at(pages, positions, page_len, index < num_tokens[:, None])
    read_len = pages.shape[1] * page_len
    is_visible = jnp.arange(read_len)[None, None] <= positions[..., None]
    layers = list(cache)

    def attention(number, query, key, value):
        offsets = positions % page_len
        layers[number] = kv.write(layers[number], targets, offsets, key, value)
        keys, values = kv.gather(layers[number], pages)
        keys, values = keys.astype(query.dtype), values.astype(query.dtype)
        return attend(query, keys, values, is_visible)

    hidden = transformer.hidden_with(params, tokens, positions, attention)
    return hidden, tuple(layers)


def step(
    transformer: Transformer,
    params: Params,
    tokens: Int[Array, " R"],
    positions: Int[Array, " R"],
    is_fed: Bool[Array, " R"],
    cache: kv.Cache,
    pages: Int[Array, "R M"],
    num_parts: int,
) -> tuple[Float[Array, "R D"], kv.Cache]:
    """Final hidden states of one token of each row, cached if it is fed.

    Only the first `num_parts` parts of the cache are read: no page of `pages` that
    is needed may lie behind them.
    """
    parts = cache[0][:num_parts]
    num_pages, page_len = sum(part.num_pages for part in parts), parts[0].page_len
    R, M = pages.shape
    targets = _page_at(pages, positions[:, None], page_len, is_fed[:, None])
    # Turned round: for each page the row that owns it, and how much of it is there.
    rows = jnp.broadcast_to(jnp.arange(R)[:, None], (R, M))
    owners = jnp.zeros(num_pages, jnp.int32).at[pages].set(rows, mode="drop")
    visible = positions[:, None] + 1 - page_len * jnp.arange(M)[None]
    num_visible = jnp.zeros(num_pages, jnp.int32)
    num_visible = num_visible.at[pages].set(visible.clip(0, page_len), mode="drop")
    layers, mesh = list(cache), transformer.rollout_mesh
    kernel = attend_kernel
    if mesh is not None:
        kernel = functools.partial(attend_kernel_by_heads, mesh)

    def attention(number, query, key, value):
        offsets = positions[:, None] % page_len
        read, rest = layers[number][:num_parts], layers[number][num_parts:]
        read = kv.write(read, targets, offsets, key, value)
        layers[number] = (*read, *rest)
        query = query[:, 0]
        if isinstance(read[0], kv.KernelPages):
            heads = kernel(query, *read, positions + 1, pages)
        else:
            heads = attend_pages(query, read, owners, num_visible, pages)
        return heads[:, None]

    hidden = transformer.hidden_with(
        params, tokens[:, None], positions[:, None], attention
    )
    return hidden[:, 0], tuple(layers)


def _row_attention(transformer: Transformer) -> RowAttention:
    """That of training, cut as rollouts are in place of its own cut."""
    trained, mesh = transformer.attention, transformer.rollout_mesh
    kernel = trained.kernel if isinstance(trained, PerDevice) else trained
    if mesh is None:
        return kernel
    by_heads = PartitionSpec(None, None, *mesh.axis_names, None)
    return PerDevice(kernel, NamedSharding(mesh, by_heads))


def _page_at(
    pages: Int[Array, "R M"],
    positions: Int[Array, "R T"],
    page_len: int,
    is_token: Bool[Array, "R T"],
) -> Int[Array, "R T"]:
    """The page in which each position lies; NO_PAGE for what is no token."""
    number = jnp.minimum(positions // page_len, pages.shape[1] - 1)
    return jnp.where(is_token, jnp.take_along_axis(pages, number, axis=1), kv.NO_PAGE)
