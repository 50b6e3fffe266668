"""The paged key/value cache gives the same hidden states as no cache."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxsearch.models import cached_forward as cached
from jaxsearch.models.attention import attend
from jaxsearch.models.cache import (
    NO_PAGE,
    PageLayout,
    PageReads,
    Pages,
    empty_cache,
    gather,
    page_reads,
    paged,
    put,
    write,
)
from jaxsearch.models.copied_page_attention import COPIED_PAGES, attend_copied
from jaxsearch.models.decode_kernels import (
    DECODE_KERNELS,
    attend_cache,
    decode_kernel,
)
from jaxsearch.models.kernels import Target
from jaxsearch.models.page_attention import PLAIN_PAGES, attend_pages
from jaxsearch.models.tpu_page_attention import (
    TPU_PAGES,
    TpuPages,
    attend_tpu_pages,
)
from tests.models.test_transformer import GEMMA3, LLAMA, QWEN, QWEN3, hidden, make
from tests.tpu_compiler import printed_with_tpu_compiler

W = 4  # tokens per page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "stale", "kernel"),
    [
        (QWEN, math.nan, PLAIN_PAGES),
        (LLAMA, math.inf, PLAIN_PAGES),
        (QWEN3, 100.0, PLAIN_PAGES),
        (GEMMA3, math.nan, PLAIN_PAGES),
        (GEMMA3, math.nan, COPIED_PAGES),
    ],
    ids=["qwen2", "llama", "qwen3", "gemma3", "gemma3-copied"],
)
def test_cached_equals_uncached(architecture, stale, kernel):
    """Appends to some rows and decodes, twice, with pages in random order."""
    transformer, params = make(architecture, decode_kernel=kernel)
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, 50, (4, 16)).astype(np.int32)
    # Values that an earlier rollout left in the pages must not be read.
    cache = empty_cache(architecture, (5, 8, 4), W, jnp.float32)
    cache = jax.tree.map(lambda x: x + stale, cache)
    rollout_params = transformer.for_rollouts(params)
    # Sixteen of the seventeen pages; the last ones hold only the last tokens.
    order = [*rng.permutation(12), *rng.permutation([12, 13, 15, 16])]
    pages = np.asarray(order, np.int32).reshape(4, 4).T
    found = np.zeros((4, 16, 32), np.float32)
    lens = np.zeros(4, int)
    append = jax.jit(cached.append, static_argnums=0)
    step = jax.jit(cached.step, static_argnums=(0, 7))

    def is_stale(x):
        return np.isclose(x, stale, rtol=0, atol=0, equal_nan=True)

    def feed(rows, counts, width, num_pages):
        nonlocal cache
        fed = np.full((len(rows), width), 7, np.int32)
        table = np.full((len(rows), num_pages), NO_PAGE, np.int32)
        for i, (row, count) in enumerate(zip(rows, counts, strict=True)):
            if row < 4:
                fed[i, :count] = tokens[row, lens[row] : lens[row] + count]
                table[i] = pages[row, :num_pages]
        starts = np.array([lens[row] if row < 4 else 0 for row in rows], np.int32)
        out, cache = append(
            transformer, rollout_params, fed, starts, np.int32(counts), cache, table
        )
        for i, (row, count) in enumerate(zip(rows, counts, strict=True)):
            if row < 4:
                found[row, lens[row] : lens[row] + count] = out[i, :count]
                lens[row] += count

    def decode(rows, is_fed, num_pages):
        nonlocal cache
        fed = tokens[rows, lens[rows]]
        out, cache = step(
            transformer,
            rollout_params,
            fed,
            lens[rows].astype(np.int32),
            np.asarray(is_fed),
            cache,
            pages[rows],
            num_pages,
        )
        for i, row in enumerate(rows):
            if is_fed[i]:
                found[row, lens[row]] = out[i]
                lens[row] += 1

    feed([2, 0, 3, 1], [3, 5, 1, 4], 5, 2)  # rows permuted and padded
    feed([3, 1, 4], [4, 2, 0], 4, 3)  # append to two; the third row is padding
    for _ in range(3):
        decode([0, 1, 2, 3], [True, True, False, True], 13)  # all but one
    decode([1, 3], [True, True], 13)  # fewer rows than the cache has
    feed([2, 0], [5, 5], 6, 4)
    decode([3, 2, 1, 0], [True] * 4, 17)
    assert lens.tolist() == [14, 11, 9, 10]
    expected = hidden(transformer, params, tokens, lens.astype(np.int32))
    for row, length in enumerate(lens):
        np.testing.assert_allclose(
            found[row, :length], expected[row, :length], rtol=1e-4, atol=1e-5
        )
    # Padding was not written, neither after a row's end nor to the free page.
    for layer in cache:
        keys = np.concatenate([np.asarray(segment.keys) for segment in layer])
        values = np.concatenate([np.asarray(segment.values) for segment in layer])
        assert is_stale(keys[14]).all() and is_stale(values[14]).all()
        for row, length in enumerate(lens):
            of_row = np.concatenate(list(keys[pages[row]]), axis=-1)
            assert is_stale(of_row[..., length:]).all()
            of_row = np.concatenate(list(values[pages[row]]), axis=-2)
            assert is_stale(of_row[..., length:, :]).all()
            assert not is_stale(of_row[..., :length, :]).any()


@pytest.mark.parametrize("architecture", [QWEN, GEMMA3], ids=["qwen2", "gemma3"])
def test_a_prefilled_prompt_is_what_appending_it_would_have_cached(architecture):
    transformer, params = make(architecture)
    rollout_params = transformer.for_rollouts(params)
    tokens = np.random.default_rng(3).integers(0, 50, (3, 10)).astype(np.int32)
    prefilled = jax.jit(cached.prefill, static_argnums=(0, 3))(
        transformer, rollout_params, tokens, W
    )
    _, appended = cached.append(
        transformer,
        rollout_params,
        jnp.asarray(tokens),
        jnp.zeros(3, jnp.int32),
        jnp.full(3, 10),
        empty_cache(architecture, (9,), W, jnp.float32),
        jnp.arange(9).reshape(3, 3),
    )
    for layer, (expected,) in zip(prefilled, appended, strict=True):
        last = np.arange(9) % 3 == 2  # of each prompt, two of whose tokens are real
        for a, b in ((layer.keys, expected.keys), (layer.values, expected.values)):
            np.testing.assert_allclose(a[~last], b[~last], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            layer.keys[last][..., :2], expected.keys[last][..., :2], atol=1e-5
        )
        np.testing.assert_allclose(
            layer.values[last][..., :2, :], expected.values[last][..., :2, :], atol=1e-5
        )


def scattered(dtype, seed=0, parts=(3, 6, 3), stale=math.nan):
    """Three rows of 9, 17 and 1 tokens, in twelve pages and as plain arrays."""
    rng = np.random.default_rng(seed)
    K, H, lens = 2, 8, np.array([9, 17, 1])
    S = 5 * W
    keys = rng.normal(size=(3, K, H, S)).astype(np.float32)
    values = rng.normal(size=(3, K, S, H)).astype(np.float32)
    pages = np.full((3, 5), NO_PAGE, np.int32)
    free = list(rng.permutation(sum(parts)))
    pool_keys = np.full((sum(parts), K, H, W), stale, np.float32)
    pool_values = np.full((sum(parts), K, W, H), stale, np.float32)
    owners = rng.integers(0, 3, sum(parts)).astype(np.int32)
    visible = np.zeros(sum(parts), np.int32)
    for row, length in enumerate(lens):
        for number in range(-(-length // W)):
            page = pages[row, number] = free.pop()
            here = slice(number * W, min(length, number * W + W))
            count = here.stop - here.start
            pool_keys[page, :, :, :count] = keys[row, :, :, here]
            pool_values[page, :, :count] = values[row, :, here]
            owners[page], visible[page] = row, count
    ends = np.cumsum(parts)[:-1]
    cache = tuple(
        Pages(jnp.asarray(k, dtype), jnp.asarray(v, dtype))
        for k, v in zip(
            np.split(pool_keys, ends), np.split(pool_values, ends), strict=True
        )
    )
    query = jnp.asarray(rng.normal(size=(3, 6, H)), dtype)
    is_visible = jnp.asarray(np.arange(S)[None, None] < lens[:, None, None])
    expected = attend(
        query[:, None], jnp.asarray(keys, dtype), jnp.asarray(values, dtype), is_visible
    )
    starts = np.zeros(sum(parts), np.int32)
    for row, number in zip(*np.nonzero(pages != NO_PAGE), strict=True):
        starts[pages[row, number]] = number * W
    reads = PageReads(*map(jnp.asarray, (lens, pages, owners, visible, starts)))
    return (query, cache, reads), np.asarray(expected[:, 0], np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("stale", [1e4, math.inf, math.nan])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("bfloat16", 0.03)])
@pytest.mark.parametrize("attend_paged", [attend_pages, attend_copied])
def test_attention_to_pages_is_attention_to_rows(dtype, tolerance, stale, attend_paged):
    paged, expected = scattered(jnp.dtype(dtype), stale=stale)
    out = np.asarray(attend_paged(*paged), np.float32)
    np.testing.assert_allclose(out, expected, atol=tolerance, rtol=tolerance)


def test_reads_by_page_follow_from_those_by_row():
    (_, _, reads), _ = scattered(jnp.float32)
    found = page_reads(reads.lengths, reads.pages, len(reads.owners), W)
    is_owned = np.asarray(reads.num_visible) > 0
    np.testing.assert_array_equal(found.num_visible, reads.num_visible)
    for name in ("owners", "starts"):
        got, want = getattr(found, name), getattr(reads, name)
        np.testing.assert_array_equal(got[is_owned], want[is_owned])


@pytest.mark.parametrize("attend_paged", [attend_pages, attend_copied])
@pytest.mark.parametrize("window", [1, 3, 4, 7, 100])
def test_a_window_hides_the_tokens_before_it(window, attend_paged):
    """Changing the hidden values does not change the result, also with short rows."""
    (query, cache, reads), _ = scattered(jnp.float32)
    (_, finite, _), _ = scattered(jnp.float32, stale=1e4)
    keys, values = gather(finite, reads.pages)
    positions = jnp.arange(keys.shape[3])[None]
    is_visible = positions < reads.lengths[:, None]
    is_visible &= positions >= reads.lengths[:, None] - window
    expected = attend(query[:, None], keys, values, is_visible[:, None])[:, 0]
    found = attend_paged(query, cache, reads, window)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


CHOICES = [
    (None, "cpu", 128, PLAIN_PAGES),
    (None, "cuda", 128, PLAIN_PAGES),
    (None, "tpu", 128, TPU_PAGES),
    (None, "tpu", 64, PLAIN_PAGES),
    (PLAIN_PAGES, "tpu", 128, PLAIN_PAGES),
]


@pytest.mark.parametrize(("kernel", "where", "width", "expected"), CHOICES)
def test_the_platform_decides(kernel, where, width, expected):
    target = Target(platform=where, dtype="bfloat16", head_width=width)
    assert decode_kernel(kernel, target) is expected
    assert all(
        isinstance(known.layout.zeros(1, 1, 2, 2, jnp.float32), PageLayout)
        for known in DECODE_KERNELS.values()
        if known is not None
    )


def test_what_cannot_run_is_refused():
    target = Target(platform="cuda", dtype="bfloat16", head_width=128)
    with pytest.raises(ValueError, match="'tpu_pages' needs a TPU.* got cuda.*'plain'"):
        decode_kernel(TPU_PAGES, target)
    local = dataclasses.replace(target, platform="tpu", has_windows=True)
    with pytest.raises(ValueError, match="no local layers; got .* and local layers"):
        decode_kernel(TPU_PAGES, local)
    assert decode_kernel(None, local) is PLAIN_PAGES


@pytest.mark.slow
def test_the_kernel_for_tpus_attends_to_the_same():
    """The kernel runs in interpret mode, because there is no TPU here."""
    rng = np.random.default_rng(4)
    R, N, K, H, page_len, M = 4, 14, 2, 128, 16, 5
    num_pages = R * M + 1
    new = [rng.normal(size=(R, M * page_len, K, H)) for _ in range(2)]
    lens = jnp.array([1, 16, 37, 80])
    is_token = np.arange(M * page_len) < np.asarray(lens)[:, None]
    # An earlier rollout's NaN after the end of a row must not be read.
    key, value = (
        jnp.asarray(np.where(is_token[..., None, None], x, math.nan), jnp.bfloat16)
        for x in new
    )
    query = jnp.asarray(rng.normal(size=(R, N, H)), jnp.bfloat16)
    pages = rng.permutation(num_pages)[: R * M].reshape(R, M).astype(np.int32)
    is_owned = np.arange(M)[None] * page_len < np.asarray(lens)[:, None]
    pages = jnp.asarray(np.where(is_owned, pages, NO_PAGE))
    sizes = dataclasses.replace(QWEN, num_heads=N, num_kv_heads=K, head_width=H)
    (cache, *_) = empty_cache(sizes, (num_pages,), page_len, jnp.bfloat16, TpuPages)
    # Half of it is written as a prompt's pages and half token by token.
    half = M // 2 * page_len
    prompt = paged(key[:, :half], value[:, :half], page_len)
    cache = put(cache, pages[:, : M // 2].reshape(-1), prompt)
    at = jnp.broadcast_to(
        jnp.arange(half, M * page_len)[None], (R, M * page_len - half)
    )
    targets = jnp.take_along_axis(pages, at // page_len, axis=1)
    cache = write(cache, targets, at % page_len, key[:, half:], value[:, half:])
    is_visible = jnp.arange(M * page_len)[None, None] < lens[:, None, None]
    keys, values = gather(cache, pages)
    expected = attend(query[:, None], keys, values, is_visible)[:, 0]
    np.testing.assert_array_equal(
        keys[3], jnp.einsum("SKH->KHS", key[3]), "gathered is what was put"
    )
    mesh = jax.make_mesh((2,), ("tensor",), (AxisType.Auto,), devices=jax.devices()[:2])
    reads = page_reads(lens, pages, num_pages, page_len)

    def by_heads(query, cache, reads):
        abstract = mesh.abstract_mesh
        return attend_cache(TPU_PAGES, abstract, query, cache, reads, None)

    shared = jax.device_put((query, cache, reads), NamedSharding(mesh, PartitionSpec()))
    with pltpu.force_tpu_interpret_mode():
        found = attend_tpu_pages(query, cache, reads)
        found_by_heads = jax.jit(by_heads)(*shared)
    np.testing.assert_allclose(
        found.astype(np.float32), expected.astype(np.float32), atol=0.03, rtol=0.03
    )
    np.testing.assert_array_equal(found_by_heads, found)


def test_where_pages_lie_changes_no_bit():
    """Pages in another order, in other segments, together with other rows."""
    outs = []
    for seed, parts in ((0, (3, 6, 3)), (0, (12,)), (0, (1, 11))):
        (query, cache, reads), _ = scattered(jnp.float32, seed, parts)
        outs.append(np.asarray(attend_pages(query, cache, reads)))
        turned = jnp.array([2, 0, 1])
        place = jnp.argsort(turned).astype(jnp.int32)
        other = reads._replace(
            lengths=reads.lengths[turned],
            pages=reads.pages[turned],
            owners=place[reads.owners],
        )
        outs.append(np.asarray(attend_pages(query[turned], cache, other))[place])
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])


# 16 rows of up to 1,024 tokens with Qwen2.5-7B's heads in two layers.
STEP_FOR_A_TPU = """
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jaxsearch.models import cached_forward as cached
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.cache import empty_cache
from jaxsearch.models.tpu_page_attention import TPU_PAGES
from jaxsearch.models.transformer import Transformer

devices = topologies.get_topology_desc(
    topology_name="v5e:2x2", platform="tpu"
).devices
here = jax.sharding.SingleDeviceSharding(devices[0])
sizes = Architecture(
    vocab_size=256, width=256, mlp_width=256, num_layers=2, num_heads=28,
    num_kv_heads=4, head_width=128,
)
transformer = Transformer(
    architecture=sizes, dtype=jnp.bfloat16, decode_kernel=TPU_PAGES
)

def step(params, tokens, positions, is_fed, cache, pages):
    return cached.step(
        transformer, params, tokens, positions, is_fed, cache, pages, 128
    )

arguments = jax.eval_shape(lambda: (
    transformer.for_rollouts(transformer.init(jax.random.key(0))),
    jnp.zeros(16, jnp.int32), jnp.zeros(16, jnp.int32), jnp.zeros(16, bool),
    empty_cache(sizes, (128,), 128, jnp.bfloat16, TPU_PAGES.layout),
    jnp.zeros((16, 8), jnp.int32),
))
arguments = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), arguments
)
text = jax.jit(step, donate_argnums=4).lower(*arguments).compile().as_text()
print(text.count('custom_call_target="tpu_custom_call"'))
"""


@pytest.mark.slow
def test_a_step_of_decoding_compiles_for_a_tpu():
    """The program has one paged attention kernel per layer."""
    printed = printed_with_tpu_compiler(STEP_FOR_A_TPU)
    assert printed.split() == ["2"]
