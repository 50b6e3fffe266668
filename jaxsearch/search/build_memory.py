"""Memory that a build needs, and what fits a limit."""

from typing import NamedTuple

from jaxsearch.search.memory_use import memory_use
from jaxsearch.search.scann_scorer import (
    MAX_EXACT,
    VECTORS_PER_LEAF,
    sample_size,
    tree_for_size,
)

# Measured with 768 dimensions: bytes for each number of a vector that ScaNN trains on,
# and for each number of a vector in the tree, while it is saved.
_PER_SAMPLED = 14
_PER_NUMBER = 0.8
_PER_VECTOR = 96
# Libraries and one shard of vectors.
_BASE = 500_000_000
_MIN_LEAVES = 100


class TreePlan(NamedTuple):
    """How a tree is trained.

    Attributes:
      num_leaves: clusters.
      num_sampled: vectors to train on.
      peak_bytes: anonymous memory at the peak, estimated.
    """

    num_leaves: int
    num_sampled: int
    peak_bytes: int


def tree_plan(num: int, dims: int, max_memory: int | None = None) -> TreePlan:
    """The tree of a corpus, with fewer leaves if the memory needs it.

    Args:
      num: number of vectors.
      dims: their width.
      max_memory: limit in bytes; None has none.

    Raises:
      ValueError: if no tree fits; the error says what would.
    """
    now = memory_use()
    base = max(_BASE, 0 if now is None else now.anonymous + _BASE // 2)
    leaves = tree_for_size(num).num_leaves
    while True:
        sampled = sample_size(num, leaves)
        if leaves < tree_for_size(num).num_leaves:
            sampled = min(num, VECTORS_PER_LEAF * leaves)
        plan = TreePlan(leaves, sampled, base + _needed(num, dims, sampled))
        if max_memory is None or plan.peak_bytes <= max_memory or num <= MAX_EXACT:
            return plan
        if leaves <= _MIN_LEAVES:
            break
        leaves = max(_MIN_LEAVES, leaves * 7 // 8)
    fits = int((max_memory - base) / (_PER_NUMBER * dims + _PER_VECTOR))
    raise ValueError(
        f"--max-memory {max_memory / 1e9:.2f} GB is not enough for {num:,} vectors of "
        f"{dims} dimensions: the build needs about {plan.peak_bytes / 1e9:.2f} GB; "
        + (
            f"about {fits:,} vectors would fit"
            if fits > 0
            else f"the program alone takes about {base / 1e9:.2f} GB"
        )
    )


def _needed(num: int, dims: int, sampled: int) -> int:
    """Bytes of training, or of the tree while it is saved, whichever is more."""
    return int(
        max(_PER_SAMPLED * sampled * dims, num * (_PER_NUMBER * dims + _PER_VECTOR))
    )
