"""Roofline for a workload: the time of its matrix products at measured rates."""

import statistics
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsearch.bench.workload import Workload
from jaxsearch.models.architecture import Architecture

_REPEATS = 7


class Product(NamedTuple):
    """A product [rows, inner] x [inner, outer], with `count` different weights."""

    rows: int
    inner: int
    outer: int
    count: int

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.outer * self.count


class Work(NamedTuple):
    """The cost of one phase; FLOPs and seconds are totals over its calls."""

    calls: float
    flops: float
    seconds: float  # at the measured rates


def phases(workload: Workload) -> dict[str, Work]:
    """Work of prefill, append and decode, at the measured rates of their shapes.

    Assumes that all slots are busy in every step, that a prompt is prefilled once per
    group, and that an observation is appended without recomputing earlier tokens.
    Norms, rotary embeddings, softmax, sampling and copies are not counted.
    """
    sizes, slots = workload.architecture, workload.slots
    num_turns, T = workload.num_turns, workload.observation_len
    prompts = min(-(-slots // workload.group_size), workload.num_questions)
    num_searches = workload.num_rollouts * (num_turns - 1)
    mean_len = sum(workload.row_lens) / workload.num_rollouts
    # Rows grow at a constant rate, so a sampled token or an observation attends to
    # about half of the finished row after the prompt, and a prompt token to half of
    # the prompt.
    context = max(1, round((workload.prompt_len + mean_len) / 2))
    work = {
        "prefill": (
            workload.num_questions / prompts,
            block_products(sizes, prompts * workload.prompt_len),
            (prompts, workload.prompt_len, max(1, workload.prompt_len // 2)),
        ),
        "append": (
            num_searches / slots,
            block_products(sizes, slots * T),
            (slots, T, context),
        ),
        "decode": (
            workload.policy_tokens / slots,
            [
                *block_products(sizes, slots),
                Product(slots, sizes.width, sizes.vocab_size, 1),
            ],
            (slots, 1, context),
        ),
    }
    return {
        name: _work(sizes, workload.dtype, *parts)
        for name, parts in work.items()
        if parts[0]
    }


def block_products(sizes: Architecture, rows: int) -> list[Product]:
    """Products of all blocks for `rows` tokens, excluding attention and the head."""
    D, L, heads = sizes.width, sizes.num_layers, sizes.num_heads * sizes.head_width
    kv = 2 * sizes.num_kv_heads * sizes.head_width
    return [
        Product(rows, D, heads + kv, L),
        Product(rows, heads, D, L),
        Product(rows, D, 2 * sizes.mlp_width, L),
        Product(rows, sizes.mlp_width, D, L),
    ]


def _work(sizes: Architecture, dtype: str, calls: float, products, attended) -> Work:
    rows, queries, context = attended
    attention = 4 * rows * queries * context * sizes.num_heads * sizes.head_width
    flops = attention * sizes.num_layers + sum(p.flops for p in products)
    seconds = _attention_seconds(sizes, dtype, *attended)
    seconds += sum(product_seconds(product, dtype) for product in products)
    return Work(calls=calls, flops=calls * flops, seconds=calls * seconds)


def product_seconds(product: Product, dtype: str) -> float:
    """Measures the time of all `count` products."""
    x = jnp.ones((product.rows, product.inner), dtype)
    # One matrix per layer, because a single one would stay in the processor's cache,
    # which is too small for the weights of a model.
    weights = [
        jnp.ones((product.outer, product.inner), dtype) for _ in range(product.count)
    ]

    @jax.jit
    def multiply(x, weights):
        return [jnp.einsum("MI,OI->MO", x, weight) for weight in weights]

    return median_seconds(multiply, x, weights)


def _attention_seconds(
    sizes: Architecture, dtype: str, rows: int, queries: int, context: int
) -> float:
    K, H, L = sizes.num_kv_heads, sizes.head_width, sizes.num_layers
    grouped = queries * sizes.num_heads // K
    query = jnp.ones((rows, K, grouped, H), dtype)
    keys = [jnp.ones((rows, K, H, context), dtype) for _ in range(L)]
    values = [jnp.ones((rows, K, context, H), dtype) for _ in range(L)]

    @jax.jit
    def both(query, keys, values):
        return [(query @ key) @ value for key, value in zip(keys, values, strict=True)]

    return median_seconds(both, query, keys, values)


def median_seconds(function, *args) -> float:
    """Median time of a jitted function, measured after a call that compiles it."""
    jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
