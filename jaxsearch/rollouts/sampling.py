"""Sampling of tokens and their log-probabilities from logits."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Array, Float, Int

from jaxsearch.id_ranges import IdRanges, has_token
from jaxsearch.rollouts.threshold import Threshold, lowest_kept
from jaxsearch.rollouts.vocabulary_shards import VocabularyShards

_BLOCK = 128  # vocabulary entries summed at once by the two-level search


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopKTopP:
    """Top-k and top-p truncation of the sampled distribution; None for none.

    Top-k keeps the k most likely tokens. Of the rest, top-p keeps a token if the total
    probability of all more likely ones is less than p. Tokens whose float32
    probabilities are equal are all kept or all cut.
    """

    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self):
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1 (or None), got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1] (or None), got {self.top_p}")

    @property
    def is_whole(self) -> bool:
        """Whether nothing is truncated, so that no search is needed."""
        return self.top_k is None and (self.top_p is None or self.top_p == 1.0)


def sample(
    logits: Float[Array, "B V"],
    uniforms: Float[Array, " B"],
    temperature: Float[Array, ""],
    truncation: TopKTopP,
    mesh: AbstractMesh | None = None,
) -> tuple[Int[Array, " B"], Float[Array, " B"], Float[Array, " B"]]:
    """Draws one token per row by inverting the cumulative distribution.

    Temperature 0 takes the largest logit, with the log-prob at temperature 1.

    Args:
      logits: float32 logits, not yet divided by the temperature.
      uniforms: one random number in [0, 1) per row.
      mesh: mesh with one axis, over which the vocabulary is sharded; None if a device
        has all of it. Devices exchange a few numbers per row and no logits.

    Returns:
      The token, its log-prob at the temperature over the whole vocabulary, and its
      log-prob under the truncated distribution (equal if nothing is truncated).
    """
    if mesh is None:
        whole = VocabularyShards()
        return _sample(logits, uniforms, temperature, truncation, whole)
    [axis] = mesh.axis_names
    everywhere = PartitionSpec()
    # check_vma: the tokens are the same everywhere, as sums are; JAX cannot tell.
    return jax.shard_map(
        functools.partial(
            _sample, truncation=truncation, shards=VocabularyShards(axis, mesh.size)
        ),
        mesh=mesh,
        in_specs=(PartitionSpec(None, axis), everywhere, everywhere),
        out_specs=everywhere,
        check_vma=False,
    )(logits, uniforms, temperature)


def _sample(
    logits: Float[Array, "B V"],
    uniforms: Float[Array, " B"],
    temperature: Float[Array, ""],
    truncation: TopKTopP,
    shards: VocabularyShards,
) -> tuple[Int[Array, " B"], Float[Array, " B"], Float[Array, " B"]]:
    """`sample` for the part of the vocabulary of one device."""
    B, V = logits.shape
    is_greedy = temperature == 0
    scaled = logits / jnp.where(is_greedy, 1.0, temperature)
    num_blocks = -(-V // _BLOCK)
    blocks = jnp.pad(
        scaled, ((0, 0), (0, num_blocks * _BLOCK - V)), constant_values=-jnp.inf
    ).reshape(B, num_blocks, _BLOCK)
    block_tops = blocks.max(axis=-1)
    shard_tops = shards.stacked(block_tops.max(axis=-1))
    top = shard_tops.max(axis=-1)
    masses = jnp.exp(blocks - top[:, None, None])
    if truncation.is_whole:
        by_block = masses.sum(axis=-1)
        kept = Threshold(jnp.zeros(B), by_block)
    else:
        # Computed once: exp may be rounded differently in another fusion.
        masses = jax.lax.optimization_barrier(masses)
        by_block = masses.sum(axis=-1)
        kept = _truncated(masses, by_block, truncation, shards)

    by_shard = shards.stacked(kept.by_block.sum(axis=-1))
    kept_total = by_shard.sum(axis=-1)
    target = uniforms * kept_total
    shard, before = _first_above(by_shard, target)
    shard = jnp.where(is_greedy, jnp.argmax(shard_tops, axis=-1), shard)
    target = target - before
    token, logit = _draw(blocks, masses, block_tops, kept, target, is_greedy)
    # Where logits are NaN, no entry has mass, and the last one may be padding.
    token = jnp.minimum(token, V - 1)
    is_here = shard == shards.index
    token = shards.sum(jnp.where(is_here, shards.index * V + token, 0))
    logit = shards.sum(jnp.where(is_here, logit - top, 0.0))
    total = shards.stacked(by_block.sum(axis=-1)).sum(axis=-1)
    return token, logit - jnp.log(total), logit - jnp.log(kept_total)


def _truncated(
    masses: Float[Array, "B n W"],
    by_block: Float[Array, "B n"],
    truncation: TopKTopP,
    shards: VocabularyShards,
) -> Threshold:
    """The lowest mass after top-k, and then top-p of what is left."""
    num_entries = masses[0].size * shards.number
    smallest = shards.min(masses.min(axis=(1, 2)))
    kept = Threshold(smallest, by_block)
    if truncation.top_k is not None and truncation.top_k < num_entries:
        target = jnp.full(len(masses), truncation.top_k, jnp.float32)
        lowest, _ = lowest_kept(masses, jnp.ones_like, target, smallest, shards)
        masses = jnp.where(masses >= lowest[:, None, None], masses, 0.0)
        kept = Threshold(lowest, masses.sum(axis=-1))
    if truncation.top_p is not None and truncation.top_p < 1.0:
        total = shards.sum(kept.by_block.sum(axis=-1))
        # All entries below this together have less than 1 - p of the total.
        negligible = (1 - truncation.top_p) / num_entries * total
        floor = jnp.maximum(kept.lowest, negligible)
        target = truncation.top_p * total
        kept = lowest_kept(masses, lambda mass: mass, target, floor, shards)
    return kept


def without_missing_ids(
    logits: Float[Array, "B V"], id_ranges: IdRanges
) -> Float[Array, "B V"]:
    """Sets the logits of ids without a token to -inf."""
    is_token = has_token(jnp.arange(logits.shape[-1]), id_ranges)
    return jnp.where(is_token[None], logits, -jnp.inf)


def _draw(
    blocks: Float[Array, "B n W"],
    masses: Float[Array, "B n W"],
    block_tops: Float[Array, "B n"],
    kept: Threshold,
    target: Float[Array, " B"],
    is_greedy: Array,
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """The entry at which the running sum of kept masses exceeds the target, its logit.

    If greedy, the largest entry. The search has two levels, blocks and entries, and
    takes two passes over V. A Gumbel draw would need V random numbers, and a plain
    argmax is another slow pass on CPUs.
    """
    block, before = _first_above(kept.by_block, target)
    block = jnp.where(is_greedy, jnp.argmax(block_tops, axis=-1), block)
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    inside_masses = jnp.take_along_axis(masses, block[:, None, None], axis=1)[:, 0]
    is_kept = inside_masses >= kept.lowest[:, None]
    entry, _ = _first_above(jnp.where(is_kept, inside_masses, 0.0), target - before)
    entry = jnp.where(is_greedy, jnp.argmax(inside, axis=-1), entry)
    logit = jnp.take_along_axis(inside, entry[:, None], axis=-1)[:, 0]
    return (block * _BLOCK + entry).astype(jnp.int32), logit


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
