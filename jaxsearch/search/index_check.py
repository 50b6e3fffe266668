"""Checks of a saved index: recall, what it finds for questions, latency and memory."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxsearch.search.bm25_index import BM25, Bm25Index, bm25_fingerprint
from jaxsearch.search.encoder import Encoder, EncoderFactory, SavableEncoder
from jaxsearch.search.exact_index import ExactIndex, exact_scores
from jaxsearch.search.hybrid_index import HybridIndex, fused_otherwise
from jaxsearch.search.index import Retriever
from jaxsearch.search.index_latency import Index, latencies, latencies_of_vectors
from jaxsearch.search.index_queries import sample_queries
from jaxsearch.search.index_tuning import tuned, write_tree
from jaxsearch.search.indexes import load_index
from jaxsearch.search.memory_use import PeakMemory
from jaxsearch.search.nearest import check_k
from jaxsearch.search.question_recall import SearchQuestion, question_recall
from jaxsearch.search.scann_index import ScannIndex
from jaxsearch.search.scann_recall import noisy_vectors, recall, scores_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """What is measured.

    Attributes:
      num_queries: titles and sentences of passages, half of each; at least 2.
      k: passages per query; at least 1.
      seed: of the choice of queries.
      questions: questions whose passages or answers are known.
      fusion: settings of a hybrid that are to be other ones.
      tune: recall at k for which ScaNN's settings are chosen and written to the folder;
        None changes nothing.
      num_threads: threads of ScaNN searches; None means half of the host's cores.
    """

    num_queries: int = 200
    k: int = 5
    seed: int = 0
    questions: Sequence[SearchQuestion] = ()
    fusion: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    tune: float | None = None
    num_threads: int | None = None

    def __post_init__(self):
        if self.num_queries < 2:
            raise ValueError(f"num_queries must be >= 2, got {self.num_queries}")
        check_k(self.k)
        if self.num_threads is not None and self.num_threads < 1:
            raise ValueError(f"--threads must be >= 1, got {self.num_threads}")


NO_CHECK = Check()


def check_index(
    folder: str | Path,
    check: Check = NO_CHECK,
    *,
    encoder: Encoder | EncoderFactory | None = None,
    wrap: Callable[[Index], Retriever] = lambda index: index,
) -> dict[str, Any]:
    """Measures a saved index.

    Recall is the fraction of the k best scores that the index finds, of its vectors if
    it is a hybrid; the exact ones are computed from the stored vectors. BM25 is exact.

    Args:
      folder: the index.
      check: what is measured.
      encoder: the encoder, if the index was built with one given by value.
      wrap: makes the retriever that is asked the questions, such as a reranked one.

    Raises:
      ValueError: for a folder that holds no index, an encoder that was fitted on
        another corpus, or settings that do not apply to this kind of index.
    """
    with PeakMemory() as memory:
        index = load_index(folder, encoder=encoder, num_threads=check.num_threads)
        if check.fusion:
            index = fused_otherwise(index, check.fusion)
        if isinstance(index, Bm25Index) or index.encoder is not None:
            queries = sample_queries(index.passages, check.num_queries, seed=check.seed)
        else:
            queries = {}
        vectors = _query_vectors(index, queries, check)
        if check.tune is not None:
            index = _tuned(index, vectors, check, Path(folder))
        report = _recalls(index, vectors, check.k)
        if queries:
            texts = [text for kind in queries.values() for text in kind]
            report["ms"] = latencies(index, texts, check.k)
        else:
            report["ms"] = latencies_of_vectors(index, vectors["vectors"], check.k)
        if check.questions:
            report["questions"] = question_recall(wrap(index), check.questions)
    return {
        **describe_index(index),
        "k": check.k,
        "num_queries": check.num_queries,
        **report,
        **memory.to_json(),
    }


def _query_vectors(
    index: Index, queries: Mapping[str, list[str]], check: Check
) -> dict[str, Float32[np.ndarray, "Q dims"]]:
    """The queries as vectors, by their kind; none for BM25.

    Without an encoder they are stored vectors with noise.

    Raises:
      ValueError: if all vectors are zero.
    """
    if isinstance(index, Bm25Index):
        return {}
    if not queries:
        rng = np.random.default_rng(check.seed)
        positions = np.sort(rng.integers(len(index.passages), size=check.num_queries))
        return {"vectors": noisy_vectors(index.vectors, positions)}
    found = {}
    for kind, texts in queries.items():
        vectors = index.encoder.encode_queries(texts)
        found[kind] = vectors[vectors.any(axis=1)]
        if not len(found[kind]):
            raise ValueError(
                f"none of {len(texts)} queries from the passages has a word in the "
                "encoder's vocabulary, which is that of another corpus; build with "
                "`--encoder tfidf`"
            )
    return found


def _recalls(
    index: Index, vectors: Mapping[str, Float32[np.ndarray, "Q dims"]], k: int
) -> dict[str, Any]:
    """Recall at k of all queries, as in `--tune`, and of each kind of query."""
    if isinstance(index, Bm25Index):
        return {"recall": 1.0}
    dense = index.dense if isinstance(index, HybridIndex) else index
    if isinstance(dense, ExactIndex):
        return {"recall": 1.0} | {f"recall_{kind}": 1.0 for kind in vectors}
    k = min(k, len(index.passages))
    queries = np.concatenate(list(vectors.values()))
    found = scores_of(dense, queries, k)
    exact = exact_scores(queries, dense.vectors, k)
    report = {"recall": recall(found, exact)}
    start = 0
    for kind, own in vectors.items():
        rows = slice(start, start + len(own))
        report[f"recall_{kind}"] = recall(found[rows], exact[rows])
        start += len(own)
    return report


def _tuned(
    index: Index,
    vectors: Mapping[str, Float32[np.ndarray, "Q dims"]],
    check: Check,
    folder: Path,
) -> Index:
    """The index with the cheapest settings that reach a recall, also in its folder."""
    dense = index.dense if isinstance(index, HybridIndex) else index
    if not isinstance(dense, ScannIndex):
        raise ValueError(
            f"--tune chooses settings of ScaNN; {folder} searches exactly, so its "
            "recall is 1"
        )
    queries = np.concatenate(list(vectors.values()))
    dense = tuned(dense, queries, check.tune, min(check.k, len(index.passages)))
    write_tree(folder, dense)
    if isinstance(index, HybridIndex):
        return HybridIndex(dense, index.lexical, index.fusion)
    return dense


def _fingerprint(index: Index) -> str:
    """Hash of what turns texts into vectors or terms; "" if nothing does."""
    if isinstance(index, Bm25Index):
        return bm25_fingerprint(index.settings)
    return "" if index.encoder is None else index.encoder.fingerprint


def _encoder_settings(encoder: Encoder | None) -> dict[str, Any]:
    """The settings of an encoder, without its counts of encoded passages."""
    if not isinstance(encoder, SavableEncoder):
        return {}
    found = encoder.describe()
    return {name: found[name] for name in found if name != "truncated_passages"}


def describe_index(index: Index) -> dict[str, Any]:
    """Kind, sizes, encoder and fingerprints of an index, as JSON values."""
    encoder = index.encoder
    is_lexical = isinstance(index, Bm25Index)
    return {
        "kind": index.kind,
        "num_passages": len(index.passages),
        "dims": 0 if is_lexical else index.vectors.dims,
        "encoder": (BM25 if is_lexical else "none")
        if encoder is None
        else encoder.name,
        "encoder_settings": _encoder_settings(encoder),
        "encoder_fingerprint": _fingerprint(index),
        "corpus_fingerprint": index.corpus_fingerprint,
        "scorer": index.scorer_json(),
        "reason": index.reason,
    }
