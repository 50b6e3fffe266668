"""Joins parts of a corpus that were encoded by several processes into one index."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxsearch.search.build_folder import BuildFolder
from jaxsearch.search.build_settings import DEFAULTS, QUIET, BuildSettings, Progress
from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.finish_index import finish_index
from jaxsearch.search.index_choice import DenseParts
from jaxsearch.search.index_folder import ENCODER, PASSAGES, Corpora, read_index
from jaxsearch.search.manifest import Manifest
from jaxsearch.search.memory_use import PeakMemory
from jaxsearch.search.parts import PART
from jaxsearch.search.passage_store import StoredPassages
from jaxsearch.search.stored_corpus import StoredCorpus
from jaxsearch.search.vector_shards import VectorShards


def join_parts(
    folders: Sequence[str | Path],
    *,
    out: str | Path,
    encoder: Encoder | EncoderFactory | None = None,
    settings: BuildSettings = DEFAULTS,
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Makes one index of all parts, the same as one process would have built.

    Files of the parts are linked, not copied, if they are on the same disk.

    Args:
      folders: the parts, in any order.
      out: folder to write.
      encoder: the encoder, if it was given by value.
      settings: of which rescore, max_memory and num_threads count.
      progress: receives how far it is.

    Raises:
      ValueError: if a folder is no part, a part is missing or there twice, or they are
        not parts of the same index.
    """
    started, out = time.perf_counter(), Path(out)
    parts = _in_order([Path(folder) for folder in folders])
    first_folder, first = parts[0]
    request = {"joined": [str(folder.absolute()) for folder, _ in parts]}
    with PeakMemory() as memory, BuildFolder(out, request) as folder:
        folder.take_file(PASSAGES, first_folder / PASSAGES, first.files[PASSAGES])
        folder.set_corpus(StoredCorpus(first.corpus_fingerprint, first.corpora))
        if (first_folder / ENCODER).is_dir():
            shutil.copytree(first_folder / ENCODER, out / ENCODER, dirs_exist_ok=True)
        names = []
        for part_folder, manifest in parts:
            for name in manifest.vectors:
                folder.take_file(name, part_folder / name, manifest.files[name])
                names.append(name)
        dense = DenseParts(
            passages=StoredPassages(out / PASSAGES),
            encoder=read_index(first_folder, encoder=encoder).encoder,
            vectors=VectorShards.open([out / name for name in names]),
            corpus_fingerprint=first.corpus_fingerprint,
            corpora=Corpora(first.corpora),
        )
        if (found := len(dense.vectors)) != first.num_passages:
            raise ValueError(
                f"the parts have {found:,} vectors for {first.num_passages:,} "
                "passages: they were encoded with another --shard-rows"
            )
        found = finish_index(folder, dense, names, settings, progress)
    return {
        **found,
        "out": str(out),
        "seconds": time.perf_counter() - started,
        **memory.to_json(),
    }


def _in_order(folders: Sequence[Path]) -> list[tuple[Path, Manifest]]:
    """The parts by their numbers.

    Raises:
      ValueError: if they are not the parts of one index.
    """
    found: dict[int, tuple[Path, Manifest]] = {}
    for folder in folders:
        manifest = Manifest.read(folder)
        if manifest.kind != PART:
            raise ValueError(
                f"{folder} is an index of the kind {manifest.kind!r}, expected a part, "
                "built with --part"
            )
        number = manifest.scorer.get("number")
        if not isinstance(number, int) or number in found:
            raise ValueError(f"{folder} is part {number}, which is there twice")
        found[number] = folder, manifest
    parts = [found[number] for number in sorted(found)]
    first_folder, first = parts[0]
    for folder, manifest in parts:
        for name in (
            *("corpus_fingerprint", "encoder_fingerprint", "dims", "corpora"),
            *("num_passages",),
        ):
            one, other = vars(first)[name], vars(manifest)[name]
            if one != other:
                raise ValueError(
                    f"{folder} and {first_folder} are not parts of the same index: "
                    f"{name} is {other!r:.80} and {one!r:.80}"
                )
    expected = first.scorer.get("of")
    if sorted(found) != list(range(1, len(found) + 1)) or len(found) != expected:
        raise ValueError(f"expected the parts 1 to {expected}, got {sorted(found)}")
    return parts
