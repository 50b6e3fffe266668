"""Builds the index of corpora in a folder, step by step, so that it can continue."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsearch.search.bm25_index import BM25, bm25_fingerprint, build_bm25
from jaxsearch.search.bm25_postings import Bm25Settings
from jaxsearch.search.build_folder import NO_ENCODER, BuildFolder
from jaxsearch.search.build_memory import tree_plan
from jaxsearch.search.build_request import check_encoder_and_vectors, request
from jaxsearch.search.build_settings import (
    DEFAULTS,
    QUIET,
    STAGES,
    BuildSettings,
    Progress,
)
from jaxsearch.search.encoder import (
    Encoder,
    EncoderFactory,
    SavableEncoder,
)
from jaxsearch.search.encoders import (
    encoder_given,
    encoder_named,
    load_encoder,
)
from jaxsearch.search.exact_index import encode_corpus
from jaxsearch.search.finish_index import finish_index
from jaxsearch.search.index_check import describe_index
from jaxsearch.search.index_choice import DenseParts
from jaxsearch.search.index_folder import (
    ENCODER,
    PASSAGES,
    VECTORS,
    Corpora,
)
from jaxsearch.search.indexes import load_index
from jaxsearch.search.memory_use import PeakMemory
from jaxsearch.search.parts import PART, WHOLE, shard_ranges
from jaxsearch.search.passage_store import StoredPassages
from jaxsearch.search.stored_corpus import StoredCorpus, store_corpora
from jaxsearch.search.vector_files import check_encoder, check_vectors
from jaxsearch.search.vector_shards import VectorShards, as_float16, shard_name


def build_index_folder(
    *,
    corpus: str | Path | Sequence[str | Path],
    encoder: str | Encoder | EncoderFactory,
    out: str | Path,
    settings: BuildSettings = DEFAULTS,
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Builds the index of corpora in a folder, and returns its description.

    A build that was stopped continues at its last whole shard of vectors when it is
    called again in the same way.

    Args:
      corpus: a corpus as `read_passages` takes it, or several.
      encoder: name of the encoder, as in `encoder_named`; NO_ENCODER for vectors
        without one; BM25 for an index of words; or an encoder object, as in
        `encoder_given`.
      out: folder to write; it must be empty, not exist, or hold a stopped build.
      settings: how it is built.
      progress: receives how far it is.

    Raises:
      ValueError: for a corpus, vectors or an encoder that cannot be read or do not fit
        together, or a folder that is not empty.
    """
    started, out = time.perf_counter(), Path(out)
    corpora = [corpus] if isinstance(corpus, str | os.PathLike) else list(corpus)
    check_encoder_and_vectors(encoder, settings)
    asked = request(corpora, encoder, settings)
    with PeakMemory() as memory, BuildFolder(out, asked) as folder:
        build = _Build(folder, corpora, encoder, settings, progress)
        found = build.part() if settings.part != WHOLE else build.index()
    return {
        **found,
        "out": str(out),
        "bytes": sum(p.stat().st_size for p in out.rglob("*") if p.is_file()),
        "seconds": time.perf_counter() - started,
        **memory.to_json(),
    }


class _Build:
    """The steps of one build."""

    def __init__(
        self,
        folder: BuildFolder,
        corpora: Sequence[str | Path],
        encoder: str | Encoder | EncoderFactory,
        settings: BuildSettings,
        progress: Progress,
    ):
        self._folder, self._corpora, self._given = folder, corpora, encoder
        self._settings, self._progress = settings, progress
        self._first = 0  # passage of the shard that is encoded
        self._num_passages = 0
        self._before = folder.counts  # of the processes that were stopped

    def index(self) -> dict[str, Any]:
        """Builds an index and describes it."""
        if self._given == BM25:
            return self._index_of_words()
        stored, passages, encoder, names = self._encoded()
        shards = VectorShards.open([self._folder.path / name for name in names])
        parts = DenseParts(
            passages=passages,
            encoder=encoder,
            vectors=shards,
            corpus_fingerprint=stored.fingerprint,
            corpora=Corpora(stored.corpora),
        )
        return finish_index(self._folder, parts, names, self._settings, self._progress)

    def _index_of_words(self) -> dict[str, Any]:
        """Builds an index of kind bm25 and describes it."""
        _, passages = self._stored()
        settings = self._settings.words or Bm25Settings()
        self._progress.on_stage(STAGES[3])
        scorer = build_bm25(
            passages, self._folder.path, settings, self._progress.report
        )
        self._progress.on_stage(STAGES[4])
        self._folder.finish(
            kind=BM25,
            encoder=None,
            dims=0,
            scorer=scorer,
            reason="",  # nothing was chosen
            encoder_name=BM25,
            encoder_fingerprint=bm25_fingerprint(settings),
        )
        return describe_index(load_index(self._folder.path))

    def part(self) -> dict[str, Any]:
        """Encodes a part of the passages, to be joined with the others."""
        stored, _, encoder, names = self._encoded()
        part = self._settings.part
        dims = VectorShards.open([self._folder.path / names[0]]).dims
        self._progress.on_stage(STAGES[4])
        self._folder.finish(
            kind=PART,
            encoder=encoder,
            dims=dims,
            scorer={"name": PART, "number": part.number, "of": part.of},
            reason=f"part {part}",
            vectors=names,
        )
        return {
            "kind": PART,
            "part": str(part),
            "num_passages": stored.num_passages,
            "num_shards": len(names),
            "dims": dims,
            "corpus_fingerprint": stored.fingerprint,
        }

    def _encoded(
        self,
    ) -> tuple[StoredCorpus, StoredPassages, Encoder | None, list[str]]:
        """Stores passages, encoder and vectors; returns the names of the vectors."""
        settings, folder = self._settings, self._folder
        if settings.vectors is not None:
            vectors = settings.vectors.open()
            tree_plan(*vectors.shape, settings.max_memory)  # refuses before any work
        stored, passages = self._stored()
        self._progress.on_stage(STAGES[1])
        encoder = self._encoder(passages)
        if settings.vectors is not None:
            check_vectors(settings.vectors, vectors, len(passages), encoder)
            if encoder is not None:
                check_encoder(settings.vectors, vectors, passages, encoder)
        if encoder is not None and not folder.has_encoder:
            folder.save_encoder(encoder)
        self._progress.on_stage(STAGES[2])
        names = self._write_shards(
            passages, encoder, None if settings.vectors is None else vectors
        )
        return stored, passages, encoder, names

    def _stored(self) -> tuple[StoredCorpus, StoredPassages]:
        """Stores the passages, unless a build that was stopped did it."""
        self._progress.on_stage(STAGES[0])
        path, stored = self._folder.path / PASSAGES, self._folder.corpus
        if stored is None:
            stored = store_corpora(
                self._corpora,
                path,
                skip_bad_rows=self._settings.skip_bad_rows,
                note=self._progress.note,
            )
            self._folder.set_corpus(stored)
        passages = StoredPassages(path)
        self._num_passages = len(passages)
        return stored, passages

    def _encoder(self, passages: StoredPassages) -> Encoder | None:
        """The encoder; that of a build that was stopped, if it saved one."""
        given, settings, path = self._given, self._settings, self._folder.path
        if given == NO_ENCODER:
            return None
        if not isinstance(given, str):
            return encoder_given(given, passages)
        if self._folder.has_encoder:
            return load_encoder(path / ENCODER, report=self._report)
        return encoder_named(
            given,
            passages,
            options=settings.options,
            dims=settings.dims if settings.vectors is None else None,
            seed=settings.seed,
            report=self._report,
        )

    def _write_shards(
        self,
        passages: StoredPassages,
        encoder: Encoder | None,
        vectors: Float[np.ndarray, "rows dims"] | None,
    ) -> list[str]:
        """Writes the vectors of the own part, and returns the names of their files."""
        settings, folder = self._settings, self._folder
        dims = encoder.dims if vectors is None else vectors.shape[1]
        if settings.part == WHOLE:
            tree_plan(len(passages), dims, settings.max_memory)
        ranges = shard_ranges(len(passages), settings.shard_rows, settings.part)
        begun = [number for number in ranges if folder.has_shard(number)]
        left = [number for number in ranges if number not in set(begun)]
        if begun and left:
            self._progress.note(
                f"{folder.path}: continues at shard {len(begun) + 1} of {len(ranges)}"
            )
        for number in left:
            own = ranges[number]
            self._first = own.start
            if vectors is None:
                rows = encode_corpus(passages[own.start : own.stop], encoder)
            else:
                rows = vectors[own.start : own.stop]
            source = encoder.name if vectors is None else str(settings.vectors.path)
            halves = as_float16(rows, source, own.start)
            folder.write_shard(number, halves, **self._counts(encoder))
            self._progress.report(own.stop, self._num_passages)
        return [f"{VECTORS}/{shard_name(number)}" for number in ranges]

    def _counts(self, encoder: Encoder | None) -> dict[str, int]:
        """Counts of the encoder since the build began."""
        if not isinstance(encoder, SavableEncoder) or self._settings.vectors:
            return {}
        counts = {
            name: value
            for name, value in encoder.describe().items()
            if name == "truncated_passages"
        }
        return {
            name: value + self._before.get(name, 0) for name, value in counts.items()
        }

    def _report(self, num_done: int, _: int) -> None:
        """Receives the progress of the encoder within a shard."""
        self._progress.report(self._first + num_done, self._num_passages)
