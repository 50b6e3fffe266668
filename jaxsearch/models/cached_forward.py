"""Forward passes with a key/value cache, for rollouts: prefill, append and step."""

import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from jaxsearch.models import cache as kv
from jaxsearch.models.attention import attend
from jaxsearch.models.decode_kernels import attend_cache
from jaxsearch.models.row_attention import RowAttention
from jaxsearch.models.row_kernels import PerDevice
from jaxsearch.models.transformer import Params, Transformer


def prefill(
    transformer: Transformer, params: Params, tokens: Int[Array, "R T"], page_len: int
) -> tuple[kv.Pages, ...]:
    """Keys and values of whole rows, as R x ceil(T / W) pages per layer.

    Hidden states are not returned, so XLA leaves out the rest of the last layer.
    """
    R, T = tokens.shape
    positions = jnp.broadcast_to(jnp.arange(T)[None], (R, T))
    attend_row = _row_attention(transformer)

    def attention(state, shared, window, query, key, value):
        heads = attend_row(query, key, value, window=window)
        return heads, kv.paged(key, value, page_len)

    states = [None] * transformer.architecture.num_layers
    _, pages = transformer.hidden_with(
        params, tokens, positions, attention, states, None
    )
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
    """Final hidden states of new tokens of some rows, and the updated cache.

    Row r has `num_tokens[r]` tokens at positions from starts[r] on; the rest is
    padding, which is not written to the cache. Each token attends to the cached tokens
    of its row up to and including itself.

    Args:
      pages: pages of each row in order of positions, up to its last new token.
    """
    page_len = cache[0][0].page_len
    index = jnp.arange(tokens.shape[1])[None]
    positions = starts[:, None] + index
    targets = _page_at(pages, positions, page_len, index < num_tokens[:, None])
    key_positions = np.arange(pages.shape[1] * page_len)[None, None]
    is_causal = key_positions <= positions[..., None]
    # An earlier rollout may have left NaN after a row's end, and 0 * NaN is NaN.
    is_of_row = key_positions < (starts + num_tokens)[:, None, None]

    def attention(layer, shared, window, query, key, value):
        positions, pages, targets, is_causal, is_of_row = shared
        layer = kv.write(layer, targets, positions % page_len, key, value)
        keys, values = kv.gather(layer, pages)
        keys, values = keys.astype(query.dtype), values.astype(query.dtype)
        values = jnp.where(is_of_row[..., None], values, 0)
        is_visible = is_causal
        if window is not None:
            is_visible &= key_positions > positions[..., None] - window
        return attend(query, keys, values, is_visible), layer

    shared = (positions, pages, targets, is_causal, is_of_row)
    hidden, layers = transformer.hidden_with(
        params, tokens, positions, attention, cache, shared
    )
    return hidden, tuple(layers)


def step(
    transformer: Transformer,
    params: Params,
    tokens: Int[Array, " R"],
    positions: Int[Array, " R"],
    is_fed: Bool[Array, " R"],
    cache: kv.Cache,
    pages: Int[Array, "R M"],
    num_pages: int,
) -> tuple[Float[Array, "R D"], kv.Cache]:
    """Final hidden states of one token per row; tokens that are fed are cached.

    Only the first `num_pages` pages of the cache are read; they must include every page
    of the rows.
    """
    page_len = cache[0][0].page_len
    num_segments = kv.num_segments(cache[0], num_pages)
    pages = pages[:, :num_pages]
    targets = _page_at(pages, positions[:, None], page_len, is_fed[:, None])
    reads = kv.page_reads(positions + 1, pages, num_pages, page_len)

    def attention(layer, shared, window, query, key, value):
        positions, targets, reads = shared
        offsets = positions[:, None] % page_len
        written = kv.write(layer[:num_segments], targets, offsets, key, value)
        heads = attend_cache(
            transformer.decode_kernel,
            transformer.rollout_mesh,
            query[:, 0],
            written,
            reads,
            window,
        )
        return heads[:, None], (*written, *layer[num_segments:])

    hidden, layers = transformer.hidden_with(
        params,
        tokens[:, None],
        positions[:, None],
        attention,
        cache,
        (positions, targets, reads),
    )
    return hidden[:, 0], tuple(layers)


def _row_attention(transformer: Transformer) -> RowAttention:
    """The attention over whole rows, partitioned as in rollouts."""
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
    """The page of each position; NO_PAGE for padding."""
    number = jnp.minimum(positions // page_len, pages.shape[1] - 1)
    return jnp.where(is_token, jnp.take_along_axis(pages, number, axis=1), kv.NO_PAGE)
