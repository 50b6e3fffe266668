"""ScaNN's searcher: its interface, and how it is trained, filled, saved and read."""

import os
import re
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxsearch.folder_files import file_inside
from jaxsearch.search.encoder_options import Report, no_report
from jaxsearch.search.scann_scorer import TreeAh, sample_size
from jaxsearch.search.vector_shards import VectorShards

_REBUILD = "rebuild the index"
# The form in which ScaNN writes scann_assets.pbtxt.
_PATH = re.compile(r'asset_path: "([^"\\]*)"')
_ASSETS = re.compile(rf"(assets \{{\s*asset_type: \w+\s*{_PATH.pattern}\s*\}}\s*)+")
# Vectors that are converted and compressed at a time.
_BLOCK = 16_384
_NUM_CODES = 16  # of each block of dimensions
_NUM_NEIGHBORS = 10  # ScaNN's default; every search gives its own number


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


def default_num_threads() -> int:
    """Half of the host's cores, at least one; decoding needs the others."""
    return max(1, (os.cpu_count() or 1) // 2)


def train_searcher(
    shards: VectorShards,
    scorer: TreeAh,
    *,
    num_threads: int,
    num_sampled: int | None = None,
    seed: int = 0,
    report: Report = no_report,
) -> Searcher:
    """Trains a tree on some of the vectors and puts all of them into it.

    ScaNN would need several copies of all vectors to train on them. It keeps
    compressed vectors only: its candidates are scored again by `nearest`.

    Args:
      shards: the vectors.
      scorer: settings of the tree.
      num_threads: threads of the training.
      num_sampled: vectors to train on; None chooses by the number of leaves.
      seed: seed of the choice of vectors; the training itself has none.
      report: receives the number of vectors in the tree.

    Raises:
      ValueError: if there are fewer vectors than leaves.
    """
    num = len(shards)
    if num < scorer.num_leaves:
        raise ValueError(
            f"num_leaves must be <= the number of passages, {num}, got "
            f"{scorer.num_leaves}"
        )
    if num < _NUM_CODES:
        raise ValueError(
            f"ScaNN needs at least {_NUM_CODES} passages, got {num}; omit scorer for "
            "an exact index"
        )
    if num_sampled is None:
        num_sampled = sample_size(num, scorer.num_leaves)
    chosen = np.random.default_rng(seed).choice(num, num_sampled, replace=False)
    chosen.sort()
    searcher = (
        scann_ops()
        .builder(shards.rows(chosen), _NUM_NEIGHBORS, "dot_product")
        .set_n_training_threads(num_threads)
        .tree(
            num_leaves=scorer.num_leaves,
            num_leaves_to_search=scorer.leaves_to_search,
            training_sample_size=num_sampled,
        )
        .score_ah(
            scorer.dimensions_per_block,
            anisotropic_quantization_threshold=scorer.anisotropic_quantization_threshold,
            training_sample_size=min(num_sampled, 100_000),
        )
        .build()
    )
    if num_sampled < num:
        _fill(searcher, shards, report)
    return searcher


def _fill(searcher: Any, shards: VectorShards, report: Report) -> None:
    """Puts all vectors into a searcher, in order, in place of its sample."""
    # The wrapper would keep a dict of all ids and pickle it.
    inner = searcher.searcher
    num_sampled = searcher.size()
    for start, block in shards.blocks(_BLOCK):
        stop = start + len(block)
        places = [
            position if position < num_sampled else None
            for position in range(start, stop)
        ]
        inner.upsert(places, block.astype(np.float32), len(block))
        report(stop, len(shards))


def save_searcher(searcher: Any, folder: Path) -> None:
    """Writes a searcher to a new folder, without a pickle."""
    folder.mkdir(exist_ok=True)
    searcher.searcher.serialize(str(folder), True)


def load_searcher(folder: Path) -> Searcher:
    """Reads a searcher written by `save_searcher`.

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
    # IndexError: an array has a number that is not the number of a passage.
    except (RuntimeError, IndexError) as error:
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
            "for other systems, where every index is exact"
        ) from error
    return scann_ops_pybind
