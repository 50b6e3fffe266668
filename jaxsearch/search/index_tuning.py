"""The cheapest settings of ScaNN that reach a recall, written to the index."""

import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from jaxsearch.search.exact_index import exact_scores
from jaxsearch.search.manifest import Manifest
from jaxsearch.search.scann_index import ScannIndex
from jaxsearch.search.scann_recall import recall, scores_of

# Passages rescored exactly per query that are tried.
_RESCORED = (50, 100, 200, 400)
_NUM_TIMED = 32
_NUM_RUNS = 5


def tuned(
    index: ScannIndex,
    queries: Float32[np.ndarray, "Q dims"],
    target: float,
    k: int,
) -> ScannIndex:
    """The index with the fastest settings whose recall at k reaches the target.

    For each number of rescored passages, the fewest leaves that suffice are found by
    bisection; then a batch of 32 queries is timed.

    Raises:
      ValueError: if the target is not in (0, 1], or no setting reaches it.
    """
    if not 0 < target <= 1:
        raise ValueError(f"--tune must be in (0, 1], got {target}")
    exact = exact_scores(queries, index.vectors, k)
    found: list[tuple[float, ScannIndex]] = []
    best = 0.0
    for rescored in _RESCORED:
        if rescored < k:
            continue
        widest = _with(index, index.scorer.num_leaves, rescored)
        reached = recall(scores_of(widest, queries, k), exact)
        best = max(best, reached)
        if reached >= target:
            tried = _fewest_leaves(widest, queries, exact, target)
            found.append((_median_ms(tried, queries, k), tried))
    if not found:
        raise ValueError(
            f"no setting reaches a recall of {target:g}: with all leaves it is "
            f"{best:.3f}; give a smaller --tune, or build the index again"
        )
    return min(found, key=lambda pair: pair[0])[1]


def write_tree(folder: Path, index: ScannIndex) -> None:
    """Writes the settings of a tree to the manifest of its folder."""
    manifest = Manifest.read(folder)
    # Of a hybrid they are those of its vectors.
    scorer = manifest.scorer
    if manifest.kind == ScannIndex.kind:
        changed = _changed(scorer, index)
    else:
        dense = scorer["dense"]
        changed = scorer | {
            "dense": dense | {"scorer": _changed(dense["scorer"], index)}
        }
    dataclasses.replace(manifest, scorer=changed).write(folder)


def _changed(scorer: dict[str, Any], index: ScannIndex) -> dict[str, Any]:
    """The settings of a manifest with those of the index that a search may change."""
    return scorer | {
        "leaves_to_search": index.scorer.leaves_to_search,
        "reorder": index.scorer.reorder,
    }


def _with(index: ScannIndex, leaves: int, rescored: int) -> ScannIndex:
    return index.with_scorer(
        dataclasses.replace(index.scorer, leaves_to_search=leaves, reorder=rescored)
    )


def _fewest_leaves(
    widest: ScannIndex,
    queries: Float32[np.ndarray, "Q dims"],
    exact: Float[np.ndarray, "Q k"],
    target: float,
) -> ScannIndex:
    """The index with the fewest leaves that reach the target, which all leaves do."""
    too_few, enough = 0, widest.scorer.num_leaves
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        tried = _with(widest, middle, widest.scorer.reorder)
        if recall(scores_of(tried, queries, exact.shape[1]), exact) >= target:
            enough = middle
        else:
            too_few = middle
    return _with(widest, enough, widest.scorer.reorder)


def _median_ms(
    index: ScannIndex, queries: Float32[np.ndarray, "Q dims"], k: int
) -> float:
    batch = np.resize(queries, (_NUM_TIMED, queries.shape[1]))
    elapsed = []
    for _ in range(_NUM_RUNS):
        started = time.perf_counter()
        index.nearest(batch, k)
        elapsed.append(1e3 * (time.perf_counter() - started))
    return statistics.median(elapsed)
