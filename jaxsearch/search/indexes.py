"""Making an index in memory, and opening an index folder of any kind."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch.search.bm25_index import open_bm25
from jaxsearch.search.dense_index import DenseIndex
from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.encoder_options import QueryDevice
from jaxsearch.search.exact_index import ExactIndex, encode_corpus
from jaxsearch.search.hybrid_index import open_hybrid
from jaxsearch.search.index import Retriever
from jaxsearch.search.index_choice import DenseParts, choose_index
from jaxsearch.search.index_folder import Corpora, StoredIndex, read_index
from jaxsearch.search.passages import Passage, corpus_fingerprint
from jaxsearch.search.scann_index import ScannIndex
from jaxsearch.search.scann_scorer import TreeAh, tree_from_json
from jaxsearch.search.scann_searcher import default_num_threads, load_searcher
from jaxsearch.search.vector_shards import VectorShards

# ScaNN's exact search, which format 1 had.
_OLD_EXACT = {"name": "brute_force"}


def build_index(
    passages: Sequence[Passage],
    encoder: Encoder,
    *,
    scorer: TreeAh | None = None,
    num_threads: int | None = None,
    platform: str = sys.platform,
) -> DenseIndex:
    """Makes an index in memory, with float32 vectors; `choose_index` chooses its kind.

    Raises:
      ValueError: if there is no passage, or `scorer` asks for a tree on a platform
        without ScaNN.
    """
    return choose_index(
        DenseParts(
            passages=list(passages),
            encoder=encoder,
            vectors=VectorShards([encode_corpus(passages, encoder)]),
            corpus_fingerprint=corpus_fingerprint(passages),
            corpora=Corpora(),
        ),
        scorer=scorer,
        num_threads=num_threads,
        platform=platform,
    )


def load_index(
    folder: str | Path,
    *,
    corpus_fingerprint: str | None = None,
    encoder: Encoder | EncoderFactory | None = None,
    query_device: QueryDevice = "host",
    verify: bool = False,
    num_threads: int | None = None,
) -> Any:
    """Opens an index of any kind; the arguments are those of `read_index`.

    Raises:
      ValueError: if the folder is damaged, or was built from another corpus or with
        another encoder.
    """
    stored = read_index(
        Path(folder),
        corpus_fingerprint=corpus_fingerprint,
        encoder=encoder,
        query_device=query_device,
        verify=verify,
        num_threads=num_threads,
    )
    kind = stored.manifest.kind
    if kind not in OPENERS:
        raise ValueError(
            f"index {folder}: expected a kind among {sorted(OPENERS)}, found "
            f"{kind!r:.60}"
        )
    return OPENERS[kind](stored)


def open_dense(stored: StoredIndex, kind: str, scorer: Mapping[str, Any]) -> DenseIndex:
    """Opens the vectors of an index folder.

    Args:
      stored: the folder.
      kind: "exact" or "scann".
      scorer: settings of the kind, as in a manifest.

    Raises:
      ValueError: if files are damaged or do not fit together.
    """
    settings = dict(scorer)
    in_memory = settings.pop("rescore", "mapped") == "memory"
    common: dict[str, Any] = {
        "corpus_fingerprint": stored.manifest.corpus_fingerprint,
        "corpora": stored.corpora,
        "reason": stored.manifest.reason,
    }
    shards = stored.shards(in_memory=in_memory)
    if kind == "exact" or settings == _OLD_EXACT:
        return ExactIndex(stored.passages, stored.encoder, shards, **common)
    return ScannIndex(
        stored.passages,
        stored.encoder,
        shards,
        searcher=load_searcher(stored.scann_folder()),
        scorer=tree_from_json(settings),
        num_threads=stored.num_threads or default_num_threads(),
        **common,
    )


def _open_this(stored: StoredIndex) -> DenseIndex:
    return open_dense(stored, stored.manifest.kind, stored.manifest.scorer)


OPENERS: dict[str, Callable[[StoredIndex], Retriever]] = {
    "exact": _open_this,
    "scann": _open_this,
    "bm25": open_bm25,
    "hybrid": lambda stored: open_hybrid(stored, open_dense),
}
"""Opens an index folder, by the kind that its manifest names."""
