"""Roofline for an update: the time of its matrix products at measured rates."""

import jax
import jax.numpy as jnp

from jaxsearch.bench.roofline import Product, Work, block_products, median_seconds
from jaxsearch.bench.workload import Workload
from jaxsearch.models.architecture import Architecture

_TOKENS = 2048  # rows of the measured products
_PEAK_SIZE = 4096  # size of the square matrices that define the peak rate


def phases(workload: Workload) -> dict[str, Work]:
    """Work of blocks, attention and head, forward and backward.

    Each product is counted once, at the measured rate of its shape, and only for real
    tokens: no padding, no recomputation in the backward pass, attention only on
    unmasked pairs, and the head only on policy tokens. Norms, rotary embeddings,
    softmax, the optimizer and copies are not counted.
    """
    sizes, dtype = workload.architecture, workload.dtype
    tokens = sum(workload.row_lens)
    blocks = block_products(sizes, _TOKENS)
    head = Product(_TOKENS, sizes.width, sizes.vocab_size, 1)
    mean_len = round(tokens / workload.num_rollouts)
    num_pairs = sum(n * (n + 1) // 2 for n in workload.row_lens)
    of_pairs = 3 * 4 * sizes.num_heads * sizes.head_width * sizes.num_layers
    return {
        "blocks": _products(blocks, tokens, dtype),
        "attention": Work(
            calls=num_pairs / mean_len**2,
            flops=of_pairs * num_pairs,
            seconds=num_pairs
            / mean_len**2
            * _attention_seconds(sizes, dtype, mean_len),
        ),
        "head": _products([head], workload.policy_tokens, dtype),
    }


def peak_rate(dtype: str) -> float:
    """Measured FLOP/s of the product of two large square matrices."""
    x = jnp.ones((_PEAK_SIZE, _PEAK_SIZE), dtype)
    return 2 * _PEAK_SIZE**3 / median_seconds(jax.jit(jnp.matmul), x, x)


def _products(products: list[Product], tokens: int, dtype: str) -> Work:
    calls = tokens / _TOKENS
    return Work(
        calls=calls,
        flops=3 * calls * sum(product.flops for product in products),
        seconds=calls * sum(_trained_seconds(product, dtype) for product in products),
    )


def _trained_seconds(product: Product, dtype: str) -> float:
    """Measures a product and the two products of its backward pass."""
    x = jnp.ones((product.rows, product.inner), dtype)
    of_y = jnp.ones((product.rows, product.outer), dtype)
    weight = jnp.ones((product.outer, product.inner), dtype)

    @jax.jit
    def multiply(x, of_y, weight):
        y = jnp.einsum("MI,OI->MO", x, weight)
        of_x = jnp.einsum("MO,OI->MI", of_y, weight)
        return y, of_x, jnp.einsum("MO,MI->OI", of_y, x)

    return product.count * median_seconds(multiply, x, of_y, weight)


def _attention_seconds(sizes: Architecture, dtype: str, row_len: int) -> float:
    """Measures the two products of a row's attention and the four of its backward."""
    K, H, T = sizes.num_kv_heads, sizes.head_width, row_len
    grouped = T * sizes.num_heads // K
    query = jnp.ones((K, grouped, H), dtype)
    key, value = (jnp.ones((K, T, H), dtype) for _ in range(2))

    @jax.jit
    def both(query, key, value):
        scores = jnp.einsum("KQH,KTH->KQT", query, key)
        out = jnp.einsum("KQT,KTH->KQH", scores, value)
        of_scores = jnp.einsum("KQH,KTH->KQT", out, value)
        return (
            jnp.einsum("KQT,KTH->KQH", of_scores, key),
            jnp.einsum("KQT,KQH->KTH", of_scores, query),
            jnp.einsum("KQT,KQH->KTH", scores, out),
        )

    return sizes.num_layers * median_seconds(both, query, key, value)
