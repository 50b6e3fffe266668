"""What stands behind `jaxsearch index build`, `search` and `check`."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsearch.search.encoder import SavableEncoder
from jaxsearch.search.encoder_options import EncoderOptions, Report
from jaxsearch.search.encoders import NO_OPTIONS, encoder_named
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.index import Hit
from jaxsearch.search.index_folder import check_is_free
from jaxsearch.search.indexes import build_index, load_index
from jaxsearch.search.passages import Passage, read_passages
from jaxsearch.search.scann_index import ScannIndex
from jaxsearch.search.scann_recall import recall

BATCH_SIZE = 64
# Shorter ones are headings and abbreviations more often than sentences.
MIN_SENTENCE_WORDS = 5


def build(
    *,
    corpus: str | Path,
    encoder: str,
    out: str | Path,
    options: EncoderOptions = NO_OPTIONS,
    dims: int | None = None,
    seed: int = 0,
    num_threads: int | None = None,
) -> dict[str, Any]:
    """Builds the index of a corpus, saves it, and says what it is.

    Args:
      corpus: any file that `read_passages` reads.
      encoder, options, dims, seed: as in `encoder_named`.
      num_threads: of training; None is half of the host's cores.
    """
    from rich.console import Console
    from rich.progress import Progress

    started = time.perf_counter()
    check_is_free(Path(out))
    # Standard output is for the answer.
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading passages", total=4)
        passages = read_passages(corpus)
        progress.update(task, advance=1, description="preparing the encoder")
        encoder_used = encoder_named(
            encoder,
            passages,
            options=options,
            dims=dims,
            seed=seed,
            report=_reporter(progress),
        )
        progress.update(task, advance=1, description="encoding and indexing")
        index = build_index(passages, encoder_used, num_threads=num_threads)
        progress.update(task, advance=1, description="saving")
        index.save(out)
        progress.update(task, advance=1)
    return {
        **_describe(index),
        "out": str(out),
        "bytes": sum(p.stat().st_size for p in Path(out).rglob("*") if p.is_file()),
        "seconds": time.perf_counter() - started,
    }


def search_once(folder: str | Path, query: str, k: int = 5) -> dict[str, Any]:
    """The hits of one query, as the command prints them."""
    [hits] = load_index(folder).search([query], k)
    return {
        "query": query,
        "hits": [
            {
                "id": hit.passage.id,
                "title": hit.passage.title,
                "text": hit.passage.text,
                "score": hit.score,
            }
            for hit in hits
        ],
    }


def check(
    folder: str | Path, *, num_queries: int = 200, k: int = 5, seed: int = 0
) -> dict[str, Any]:
    """Recall of a saved index against exact search, and how long it takes.

    Half of the queries are titles, half are sentences out of passages. Recall is the
    share of the k best scores that the index found; latencies include the encoding
    of the queries, in milliseconds.
    """
    if num_queries < 2:
        raise ValueError(f"num_queries must be >= 2, got {num_queries}")
    index = load_index(folder)
    queries = sample_queries(index.passages, num_queries, seed=seed)
    is_exact = isinstance(index, ExactIndex)
    exact = index if is_exact else ExactIndex(index.passages, index.encoder)
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
        **_describe(index),
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
    """As many titles as sentences, of randomly drawn passages."""
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
    """Those of a passage that are long enough to be a query."""
    # What has no second line, as a TSV passage, is all text.
    text = passage.text or passage.contents
    found = re.split(r"(?<=[.!?])\s+", text)
    return [part for part in found if len(part.split()) >= MIN_SENTENCE_WORDS]


def _reporter(progress: Any) -> Report:
    """Shows how far an encoder is, on a bar of its own once it says so."""
    tasks: list[Any] = []

    def report(num_done: int, num_passages: int) -> None:
        if not tasks:
            tasks.append(progress.add_task("passages encoded", total=num_passages))
        progress.update(tasks[0], completed=num_done)

    return report


def _describe(index: ScannIndex | ExactIndex) -> dict[str, Any]:
    is_scann = isinstance(index, ScannIndex)
    return {
        "kind": index.kind,
        "num_passages": len(index.passages),
        "dims": index.encoder.dims,
        "encoder": index.encoder.name,
        "encoder_settings": index.encoder.describe()
        if isinstance(index.encoder, SavableEncoder)
        else {},
        "encoder_fingerprint": index.encoder.fingerprint,
        "corpus_fingerprint": index.corpus_fingerprint,
        "scorer": index.scorer.to_json() if is_scann else {"name": "exact"},
    }


def _recall(
    index: ScannIndex | ExactIndex, exact: ExactIndex, queries: list[str], k: int
) -> float:
    found = index.search(queries, k)
    expected = exact.search(queries, k)
    pairs = [pair for pair in zip(found, expected, strict=True) if pair[1]]
    if not pairs:
        raise ValueError(
            f"the encoder knows no word of {len(queries)} queries taken from the "
            "passages: it was fitted on another corpus; build with `--encoder tfidf`"
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
