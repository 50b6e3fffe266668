"""Sampling of tokens and their log-probabilities from logits."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Ids that have a token, as (start, stop) pairs.
IdRanges = tuple[tuple[int, int], ...]

_BLOCK = 128  # vocabulary entries summed at once by the two-level search


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopKTopP:
    """Top-k and top-p truncation of the sampled distribution; None for none."""

    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self):
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1 (or None), got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1] (or None), got {self.top_p}")

    @property
    def is_whole(self) -> bool:
        """Whether nothing is truncated, so that no sort is needed."""
        return self.top_k is None and (self.top_p is None or self.top_p == 1.0)


def sample(
    logits: Float[Array, "B V"],
    uniforms: Float[Array, " B"],
    temperature: Float[Array, ""],
    truncation: TopKTopP,
) -> tuple[Int[Array, " B"], Float[Array, " B"], Float[Array, " B"]]:
    """Draws one token per row by inverting the cumulative distribution.

    Temperature 0 takes the largest logit, with the log-prob at temperature 1.

    Args:
      logits: float32 logits, not yet divided by the temperature.
      uniforms: one random number in [0, 1) per row.

    Returns:
      The token, its log-prob at the temperature over the whole vocabulary, and its
      log-prob under the truncated distribution (equal if nothing is truncated).
    """
    is_greedy = temperature == 0
    scaled = logits / jnp.where(is_greedy, 1.0, temperature)
    allowed = scaled if truncation.is_whole else _truncate(scaled, truncation)
    token, allowed_lse = _draw(allowed, uniforms, is_greedy)
    chosen = jnp.take_along_axis(scaled, token[:, None], axis=-1)[:, 0]
    lse = allowed_lse if truncation.is_whole else jax.nn.logsumexp(scaled, axis=-1)
    return token, chosen - lse, chosen - allowed_lse


def without_missing_ids(
    logits: Float[Array, "B V"], id_ranges: IdRanges
) -> Float[Array, "B V"]:
    """Sets the logits of ids without a token to -inf."""
    ids = jnp.arange(logits.shape[-1])
    is_token = jnp.zeros(ids.shape, bool)
    for start, stop in id_ranges:
        is_token |= (ids >= start) & (ids < stop)
    return jnp.where(is_token[None], logits, -jnp.inf)


def _draw(
    logits: Float[Array, "B V"], uniforms: Float[Array, " B"], is_greedy: Array
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """The token at a quantile, or the most likely token, and the log-sum-exp.

    The search has two levels, blocks and entries, and takes two passes over V. A Gumbel
    draw would need V random numbers, and a plain argmax is another slow pass on CPUs.
    """
    B, V = logits.shape
    num_blocks = -(-V // _BLOCK)
    blocks = jnp.pad(
        logits, ((0, 0), (0, num_blocks * _BLOCK - V)), constant_values=-jnp.inf
    ).reshape(B, num_blocks, _BLOCK)
    block_top = blocks.max(axis=-1)
    top = block_top.max(axis=-1)
    block_mass = jnp.exp(blocks - top[:, None, None]).sum(axis=-1)
    total = block_mass.sum(axis=-1)
    target = uniforms * total
    block, before = _first_above(block_mass, target)
    block = jnp.where(is_greedy, jnp.argmax(block_top, axis=-1), block)
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    entry, _ = _first_above(jnp.exp(inside - top[:, None]), target - before)
    entry = jnp.where(is_greedy, jnp.argmax(inside, axis=-1), entry)
    # Where logits are NaN, no entry has mass, and the last one may be padding.
    token = jnp.minimum(block * _BLOCK + entry, V - 1)
    return token.astype(jnp.int32), top + jnp.log(total)


def _first_above(
    mass: Float[Array, "B W"], target: Float[Array, " B"]
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """The first entry whose running sum exceeds the target, and the sum before it.

    Only entries with mass are returned, and the last of them if no sum exceeds the
    target: because of rounding, the target may exceed the total, and a running sum may
    decrease.
    """
    ends = jnp.cumsum(mass, axis=-1)
    has_mass = mass > 0
    is_above = has_mass & (ends > target[:, None])
    last = mass.shape[-1] - 1 - jnp.argmax(has_mass[:, ::-1], axis=-1)
    index = jnp.where(is_above.any(axis=-1), jnp.argmax(is_above, axis=-1), last)
    starts = jnp.pad(ends, ((0, 0), (1, 0)))[:, :-1]
    return index, jnp.take_along_axis(starts, index[:, None], axis=-1)[:, 0]


def _truncate(scaled: Float[Array, "B V"], truncation: TopKTopP) -> Float[Array, "B V"]:
    """Sets logits outside top-k, then top-p, to -inf; treats ties alike."""
    ordered = -jnp.sort(-scaled, axis=-1)
    threshold = ordered[:, -1:]
    if truncation.top_k is not None and truncation.top_k < scaled.shape[-1]:
        threshold = ordered[:, truncation.top_k - 1 : truncation.top_k]
        ordered = jnp.where(ordered >= threshold, ordered, -jnp.inf)
    if truncation.top_p is not None and truncation.top_p < 1.0:
        probs = jax.nn.softmax(ordered, axis=-1)
        is_kept = jnp.cumsum(probs, axis=-1) - probs < truncation.top_p
        lowest = jnp.min(jnp.where(is_kept, ordered, jnp.inf), axis=-1, keepdims=True)
        threshold = jnp.maximum(threshold, lowest)
    return jnp.where(scaled >= threshold, scaled, -jnp.inf)
