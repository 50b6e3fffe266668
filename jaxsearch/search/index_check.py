"""Checks of a saved index: recall against exact search, and latency."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsearch.search.encoder import Encoder, EncoderFactory, SavableEncoder
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.index import Hit
from jaxsearch.search.indexes import load_index
from jaxsearch.search.passages import Passage
from jaxsearch.search.scann_index import ScannIndex
from jaxsearch.search.scann_recall import recall

BATCH_SIZE = 64
# Shorter sentences are mostly headings and abbreviations.
MIN_SENTENCE_WORDS = 5


def check_index(
    folder: str | Path,
    *,
    num_queries: int = 200,
    k: int = 5,
    seed: int = 0,
    encoder: Encoder | EncoderFactory | None = None,
) -> dict[str, Any]:
    """Recall of a saved index against exact search, and its latency.

    Half of the queries are titles, half are sentences from passages. Recall is the
    fraction of the k best scores that the index finds. Latencies are in milliseconds
    and include the encoding of the queries.

    Args:
      folder: the index.
      num_queries: number of queries, at least 2.
      k: passages per query.
      seed: seed of the choice of queries.
      encoder: the encoder, if the index was built with one given by value.

    Raises:
      ValueError: for fewer than two queries, a folder that holds no index, or an
        encoder that was fitted on another corpus.
    """
    if num_queries < 2:
        raise ValueError(f"num_queries must be >= 2, got {num_queries}")
    index = load_index(folder, encoder=encoder)
    queries = sample_queries(index.passages, num_queries, seed=seed)
    is_exact = isinstance(index, ExactIndex)
    exact = (
        index
        if is_exact
        else ExactIndex(
            index.passages,
            index.encoder,
            index.vectors,
            corpus_fingerprint=index.corpus_fingerprint,
        )
    )
    recalls = {
        f"recall_{kind}": _recall(index, exact, texts, k)
        for kind, texts in queries.items()
    }
    texts = [text for kind in queries.values() for text in kind]
    batches = [
        [texts[(start + offset) % len(texts)] for offset in range(BATCH_SIZE)]
        for start in range(0, max(len(texts), 10 * BATCH_SIZE), BATCH_SIZE)
    ]
    singles = _latencies(index, [[text] for text in texts], k)
    batched = _latencies(index, batches, k)
    return {
        **describe_index(index),
        "k": k,
        "num_queries": len(texts),
        "recall": float(np.mean(list(recalls.values()))),
        **recalls,
        "single_ms": singles,
        f"batch_{BATCH_SIZE}_ms": batched,
    }


def sample_queries(
    passages: Sequence[Passage], num_queries: int, *, seed: int
) -> dict[str, list[str]]:
    """Titles and sentences of randomly drawn passages, half of each."""
    rng = np.random.default_rng(seed)
    num_each = num_queries // 2
    titled = [p for p in passages if p.title]
    worded = [p for p in passages if sentences(p)]
    if not titled or not worded:
        raise ValueError(
            f"expected passages with titles and sentences of {MIN_SENTENCE_WORDS} "
            f"words or more, got {len(titled)} and {len(worded)} of {len(passages)}"
        )
    titles = [titled[i].title for i in rng.integers(len(titled), size=num_each)]
    drawn = [sentences(worded[i]) for i in rng.integers(len(worded), size=num_each)]
    return {
        "titles": titles,
        "sentences": [found[rng.integers(len(found))] for found in drawn],
    }


def sentences(passage: Passage) -> list[str]:
    """The sentences of a passage that are long enough to be a query."""
    # A passage with a single line, as in a TSV file, has no title.
    text = passage.text or passage.contents
    found = re.split(r"(?<=[.!?])\s+", text)
    return [part for part in found if len(part.split()) >= MIN_SENTENCE_WORDS]


def describe_index(index: ScannIndex | ExactIndex) -> dict[str, Any]:
    """Kind, sizes, encoder and fingerprints of an index, as JSON values."""
    return {
        "kind": index.kind,
        "num_passages": len(index.passages),
        "dims": index.vectors.dims,
        "encoder": "none" if index.encoder is None else index.encoder.name,
        "encoder_settings": index.encoder.describe()
        if isinstance(index.encoder, SavableEncoder)
        else {},
        "encoder_fingerprint": ""
        if index.encoder is None
        else index.encoder.fingerprint,
        "corpus_fingerprint": index.corpus_fingerprint,
        "scorer": index.scorer_json(),
        "reason": index.reason,
    }


def _recall(
    index: ScannIndex | ExactIndex, exact: ExactIndex, queries: list[str], k: int
) -> float:
    found = index.search(queries, k)
    expected = exact.search(queries, k)
    pairs = [pair for pair in zip(found, expected, strict=True) if pair[1]]
    if not pairs:
        raise ValueError(
            f"none of {len(queries)} queries from the passages has a word in the "
            "encoder's vocabulary, which is that of another corpus; build with "
            "`--encoder tfidf`"
        )
    return float(np.mean([recall(*map(_scores, pair)) for pair in pairs]))


def _scores(hits: Sequence[Hit]) -> np.ndarray:
    return np.array([[hit.score for hit in hits]])


def _latencies(
    index: ScannIndex | ExactIndex, batches: Sequence[list[str]], k: int
) -> dict[str, float]:
    index.search(batches[0], k)
    elapsed = []
    for batch in batches:
        started = time.perf_counter()
        index.search(batch, k)
        elapsed.append(1e3 * (time.perf_counter() - started))
    return {
        "median": float(np.median(elapsed)),
        "p95": float(np.percentile(elapsed, 95)),
    }
