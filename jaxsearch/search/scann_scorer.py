"""How ScaNN looks at a corpus: everything when it is small, a part when it is large."""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from jaxsearch.search.encoder import Encoder
from jaxsearch.search.passages import Passage

# 20,000 x 1,024 numbers are read in a few milliseconds, without any loss.
MAX_BRUTE_FORCE = 20_000
RECALL_AT = 5
# Above the 0.95 that is promised: 200 queries tell a recall to about 0.01.
TARGET_RECALL = 0.97
NUM_CALIBRATION_QUERIES = 200
# Two scores this close count as equal, as summed in different orders.
SCORE_TOLERANCE = 1e-5


@runtime_checkable  # for the checks of annotations in tests
class Searcher(Protocol):
    """What is used of ScaNN's searcher. Results are [Q, num_neighbors] arrays."""

    def size(self) -> int:
        """Number of vectors."""
        ...

    def set_num_threads(self, num_threads: int) -> None:
        """Sets the number of helpers of the calling thread."""
        ...

    def search_batched(
        self, queries: np.ndarray, **settings: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions and scores, on the calling thread."""
        ...

    def search_batched_parallel(
        self, queries: np.ndarray, **settings: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same, a batch cut into pieces of `batch_size` for all threads."""
        ...

    def serialize(self, artifacts_dir: str, relative_path: bool) -> None:
        """Writes the searcher to an existing folder."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class BruteForce:
    """Every query is compared with every passage."""

    def to_json(self) -> dict[str, Any]:
        return {"name": "brute_force"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TreeAh:
    """Passages in clusters, compared in compressed form, the best again in full."""

    num_leaves: int  # clusters
    leaves_to_search: int  # clusters looked into, per query
    reorder: int = 200  # passages compared in full, per query
    dimensions_per_block: int = 2  # that share one of 16 codes
    # ScaNN's name; it weighs the error along a passage's own direction.
    anisotropic_quantization_threshold: float = 0.2

    def __post_init__(self):
        if not 1 <= self.leaves_to_search <= self.num_leaves:
            raise ValueError(
                f"leaves_to_search must lie in [1, num_leaves = {self.num_leaves}], "
                f"got {self.leaves_to_search}"
            )
        if self.reorder < RECALL_AT:
            raise ValueError(f"reorder must be >= {RECALL_AT}, got {self.reorder}")

    def to_json(self) -> dict[str, Any]:
        return {"name": "tree_ah", **dataclasses.asdict(self)}


Scorer = BruteForce | TreeAh


def scorer_from_json(fields: dict[str, Any]) -> Scorer:
    """What `to_json` wrote."""
    settings = {name: value for name, value in fields.items() if name != "name"}
    kinds = {"brute_force": BruteForce, "tree_ah": TreeAh}
    if fields.get("name") not in kinds:
        raise ValueError(
            f"expected a scorer named one of {sorted(kinds)}, got {fields}"
        )
    kind = kinds[fields["name"]]
    if settings.keys() != {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(f"the settings of scorer {fields} are not those it has")
    return kind(**settings)


def scorer_for_size(num_passages: int) -> Scorer:
    """Brute force up to MAX_BRUTE_FORCE passages, a tree of sqrt(P) leaves above.

    The tree starts with all of its leaves looked into: `calibrate` takes away.
    """
    if num_passages <= MAX_BRUTE_FORCE:
        return BruteForce()
    num_leaves = math.isqrt(num_passages)
    return TreeAh(num_leaves=num_leaves, leaves_to_search=num_leaves)


def default_num_threads() -> int:
    """Half of the host's cores, at least one: decoding needs the others."""
    return max(1, (os.cpu_count() or 1) // 2)


def create_searcher(
    vectors: Float32[np.ndarray, "P dims"], scorer: Scorer, *, num_threads: int
) -> Searcher:
    """Trains ScaNN on the vectors."""
    num_passages = len(vectors)
    builder = (
        scann_ops()
        .builder(vectors, RECALL_AT, "dot_product")
        .set_n_training_threads(num_threads)
    )
    if isinstance(scorer, BruteForce):
        return builder.score_brute_force().build()
    if num_passages < scorer.num_leaves:
        raise ValueError(
            f"num_leaves must be <= the number of passages, {num_passages}, got "
            f"{scorer.num_leaves}"
        )
    return (
        builder.tree(
            num_leaves=scorer.num_leaves,
            num_leaves_to_search=scorer.leaves_to_search,
            training_sample_size=min(num_passages, 250_000),
        )
        .score_ah(
            scorer.dimensions_per_block,
            anisotropic_quantization_threshold=scorer.anisotropic_quantization_threshold,
            training_sample_size=min(num_passages, 100_000),
        )
        .reorder(scorer.reorder)
        .build()
    )


def load_searcher(folder: Path) -> Searcher:
    """Reads what the searcher's `serialize` wrote."""
    try:
        return scann_ops().load_searcher(str(folder), assets_backcompat_shim=False)
    except RuntimeError as error:
        raise ValueError(
            f"ScaNN cannot read {folder} ({error}); rebuild the index"
        ) from error


def calibrate(
    searcher: Searcher,
    scorer: TreeAh,
    vectors: Float32[np.ndarray, "P dims"],
    queries: Float32[np.ndarray, "Q dims"],
) -> TreeAh:
    """The scorer with the fewest leaves that reach TARGET_RECALL on the queries.

    How many are needed depends on the encoder far more than on the size: neighbours
    share a cluster where vectors are dense and learned; projected TF-IDF vectors are
    nearly orthogonal to each other, and need most of the leaves.
    """
    # Few at a time: a score for every passage is kept for each.
    exact = np.concatenate(
        [
            np.partition(queries[start : start + 8] @ vectors.T, -RECALL_AT)[
                :, -RECALL_AT:
            ]
            for start in range(0, len(queries), 8)
        ]
    )
    for sixteenths in (1, 2, 4, 6, 8, 10, 12, 13, 14, 15):
        leaves = max(1, scorer.num_leaves * sixteenths // 16)
        _, found = searcher.search_batched(queries, leaves_to_search=leaves)
        if recall(found, exact) >= TARGET_RECALL:
            return dataclasses.replace(scorer, leaves_to_search=leaves)
    return dataclasses.replace(scorer, leaves_to_search=scorer.num_leaves)


def recall(
    found: Float[np.ndarray, "Q found"], exact: Float[np.ndarray, "Q k"]
) -> float:
    """Share of the k best scores that were found; NaN stands for no passage.

    Judged by scores, not by names, so that finding one of two equal passages in
    place of the other is no miss.
    """
    is_good = found >= exact.min(axis=1, keepdims=True) - SCORE_TOLERANCE
    return float(
        np.minimum(is_good.sum(axis=1), exact.shape[1]).mean() / exact.shape[1]
    )


def calibration_queries(
    passages: Sequence[Passage], encoder: Encoder
) -> Float32[np.ndarray, "Q dims"]:
    """Vectors of titles, the first 12 words of each, of passages spread evenly."""
    step = max(1, len(passages) // NUM_CALIBRATION_QUERIES)
    sample = passages[::step][:NUM_CALIBRATION_QUERIES]
    queries = encoder.encode_queries(
        [" ".join(passage.title.split()[:12]) for passage in sample]
    )
    return queries[queries.any(axis=1)]


def scann_ops() -> Any:
    """ScaNN's module, or an ImportError that says where there is none."""
    try:
        from scann import scann_ops_pybind
    except ImportError as error:
        raise ImportError(
            "ScaNN is not installed: `pip install scann` on Linux; on other systems "
            "there is none, and `build_index` makes an ExactIndex"
        ) from error
    return scann_ops_pybind
