"""The end of a build: how complete vectors are searched, and the manifest."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxsearch.search.bm25_index import build_bm25
from jaxsearch.search.build_folder import BuildFolder
from jaxsearch.search.build_memory import tree_plan
from jaxsearch.search.build_settings import RESCORES, STAGES, BuildSettings, Progress
from jaxsearch.search.dense_index import DenseIndex
from jaxsearch.search.hybrid_index import HYBRID, hybrid_json
from jaxsearch.search.index_check import describe_index
from jaxsearch.search.index_choice import DenseParts, choose_index
from jaxsearch.search.index_folder import SCANN
from jaxsearch.search.scann_index import ScannIndex


class DenseSearch(NamedTuple):
    """The search of the vectors in a folder: what the manifest says about it."""

    index: DenseIndex
    scorer: dict[str, Any]


def dense_search(
    folder: BuildFolder,
    parts: DenseParts,
    settings: BuildSettings,
    progress: Progress,
) -> DenseSearch:
    """Chooses how complete vectors are searched, and saves ScaNN's files if it is used.

    Args:
      folder: the folder, which has the passages, the encoder and the vectors.
      parts: what the index is made of.
      settings: how it is built.
      progress: receives how far it is.
    """
    progress.on_stage(STAGES[3])
    plan = tree_plan(len(parts.vectors), parts.vectors.dims, settings.max_memory)
    index = choose_index(
        parts,
        num_leaves=plan.num_leaves,
        num_sampled=plan.num_sampled,
        num_threads=settings.num_threads,
        report=progress.report,
    )
    progress.on_stage(STAGES[4])
    if isinstance(index, ScannIndex):
        index.save_tree(folder.path / SCANN)
    scorer = index.scorer_json()
    if settings.rescore != RESCORES[0]:
        scorer["rescore"] = settings.rescore
    return DenseSearch(index, scorer)


def finish_index(
    folder: BuildFolder,
    parts: DenseParts,
    vectors: Sequence[str],
    settings: BuildSettings,
    progress: Progress,
) -> dict[str, Any]:
    """Makes the search of complete vectors, and writes the manifest.

    Args:
      folder: the folder, which has the passages, the encoder and the vectors.
      parts: what the index is made of.
      vectors: names of the files of the vectors.
      settings: how it is built.
      progress: receives how far it is.
    """
    index, scorer = dense_search(folder, parts, settings, progress)
    kind = index.kind
    if settings.words is not None:
        words = build_bm25(parts.passages, folder.path, settings.words, progress.report)
        kind, scorer = HYBRID, hybrid_json(kind, scorer, words, settings.fusion)
    folder.finish(
        kind=kind,
        encoder=parts.encoder,
        dims=parts.vectors.dims,
        scorer=scorer,
        reason=index.reason,
        vectors=vectors,
    )
    found = describe_index(index) | {"kind": kind, "scorer": scorer}
    found["encoder_settings"] |= folder.counts
    return found
