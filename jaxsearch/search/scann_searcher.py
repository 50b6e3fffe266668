"""ScaNN's searcher: its interface, and how it is built and read."""

import os
import re
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from jaxsearch.folder_files import file_inside
from jaxsearch.search.scann_scorer import RECALL_AT, BruteForce, Scorer

_REBUILD = "rebuild the index"
# The form in which ScaNN writes scann_assets.pbtxt.
_PATH = re.compile(r'asset_path: "([^"\\]*)"')
_ASSETS = re.compile(rf"(assets \{{\s*asset_type: \w+\s*{_PATH.pattern}\s*\}}\s*)+")


@runtime_checkable  # for the annotation checks of the tests
class Searcher(Protocol):
    """The used part of ScaNN's searcher. Results are [Q, num_neighbors] arrays."""

    def size(self) -> int:
        """Number of vectors."""
        ...

    def set_num_threads(self, num_threads: int) -> None:
        """Sets the number of threads in addition to the calling thread."""
        ...

    def search_batched(
        self, queries: np.ndarray, **settings: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns positions and scores, computed on the calling thread."""
        ...

    def search_batched_parallel(
        self, queries: np.ndarray, **settings: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Same as search_batched, in chunks of `batch_size` on all threads."""
        ...

    def serialize(self, artifacts_dir: str, relative_path: bool) -> None:
        """Writes the searcher to an existing folder."""
        ...


def default_num_threads() -> int:
    """Half of the host's cores, at least one; decoding needs the others."""
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
    """Reads a searcher written by `Searcher.serialize`.

    ScaNN's own loader would also unpickle a `scann_docids.pkl`, if there is one; and
    it reads every file that `scann_assets.pbtxt` names.

    Raises:
      ValueError: if ScaNN cannot read the folder, or a file of another one is named.
    """
    ops, assets = scann_ops(), folder / "scann_assets.pbtxt"
    try:
        text = assets.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{assets} cannot be read ({error}); {_REBUILD}") from error
    if not _ASSETS.fullmatch(text):
        raise ValueError(
            f"{assets}: expected the types of assets and the names of their files in "
            f"this folder, found {text!r:.120}; {_REBUILD}"
        )
    for name in _PATH.findall(text):
        file_inside(folder, name, str(assets))
    try:
        return ops.ScannSearcher(ops.scann_pybind.ScannNumpy(str(folder), text))
    except RuntimeError as error:
        raise ValueError(f"ScaNN cannot read {folder} ({error}); {_REBUILD}") from error


def scann_ops() -> Any:
    """Returns ScaNN's module.

    Raises:
      ImportError: if ScaNN is not installed; the message says how to install it.
    """
    try:
        from scann import scann_ops_pybind
    except ImportError as error:
        raise ImportError(
            "ScaNN is not installed: `pip install scann` on Linux; it has no wheels "
            "for other systems, where `build_index` makes an ExactIndex"
        ) from error
    return scann_ops_pybind
