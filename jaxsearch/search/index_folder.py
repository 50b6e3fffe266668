"""Format of an index on disk. The folder holds everything that a search needs.

index.json              the manifest
passages.arrayrecord    the corpus, found by position
encoder/                written by the encoder, if the index has one
vectors/00000.npy ...   the vectors, mapped into memory
scann/                  ScaNN's tree and codes, if the index has them

Folders of format 1 had `passages.jsonl.gz`, read into memory, and all of ScaNN's files
in vectors/. They open as before.
"""

import bisect
import dataclasses
import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxsearch.bad_rows import BadRows
from jaxsearch.local_paths import check_local
from jaxsearch.search.corpus_files import read_corpus_rows
from jaxsearch.search.encoder import Encoder, EncoderFactory, save_encoder
from jaxsearch.search.encoder_options import QueryDevice
from jaxsearch.search.encoders import encoder_given, load_encoder
from jaxsearch.search.manifest import REBUILD, Corpus, Manifest, new_manifest
from jaxsearch.search.passage_store import StoredPassages, write_store
from jaxsearch.search.passages import Passage, corpus_fingerprint
from jaxsearch.search.vector_shards import VectorShards, shard_name, write_shard

PASSAGES = "passages.arrayrecord"
_OLD_PASSAGES = "passages.jsonl.gz"
VECTORS, SCANN, ENCODER = "vectors", "scann", "encoder"
# Vectors of format 1, by kind.
_OLD_VECTORS = {"scann": "vectors/dataset.npy", "exact": "vectors/vectors.npy"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredIndex:
    """An index folder whose manifest was read, with its passages and its encoder.

    Attributes:
      encoder: None if the index has none.
      num_threads: of a search with ScaNN; None means half of the host's cores.
    """

    folder: Path
    manifest: Manifest
    passages: Sequence[Passage]
    encoder: Encoder | None
    num_threads: int | None = None

    @property
    def corpora(self) -> "Corpora":
        return Corpora(self.manifest.corpora)

    def scann_folder(self) -> Path:
        """The folder of ScaNN's files, whose hashes were compared.

        ScaNN believes what it reads: a changed bit in the tree can end the process with
        a segmentation fault. An index of format 1 has no hashes.

        Raises:
          ValueError: naming the first file that was changed.
        """
        if self.manifest.format_version == 1:
            return self.folder / VECTORS
        self.manifest.check_hashes(self.folder, within=f"{SCANN}/")
        return self.folder / SCANN

    def shards(self, *, in_memory: bool = False) -> VectorShards:
        """The vectors.

        Args:
          in_memory: whether to read them instead of mapping them.

        Raises:
          ValueError: if a file is damaged, or they do not fit the manifest.
        """
        manifest = self.manifest
        names = manifest.vectors
        if manifest.format_version == 1:
            names = [_OLD_VECTORS.get(manifest.kind, "")]
        if not names or any(name not in manifest.files for name in names):
            raise ValueError(f"index {self.folder} has no vectors; {REBUILD}")
        try:
            shards = VectorShards.open(
                [self.folder / name for name in names], in_memory=in_memory
            )
        except ValueError as error:
            raise ValueError(f"{error}; {REBUILD}") from error
        expected, found = (
            (manifest.num_passages, manifest.dims),
            (len(shards), shards.dims),
        )
        if found != expected:
            raise ValueError(
                f"index {self.folder}: expected vectors {expected}, found {found}; "
                f"{REBUILD}"
            )
        return shards


class Corpora:
    """Names of the corpora of an index, by position; "" if there is only one."""

    def __init__(self, corpora: Sequence[Corpus] = ()):
        self._names = [corpus.name for corpus in corpora]
        self._ends = list(itertools.accumulate(one.num_passages for one in corpora))

    def name(self, position: int) -> str:
        if len(self._names) < 2:
            return ""
        return self._names[bisect.bisect_right(self._ends, position)]


def check_is_free(folder: Path) -> None:
    """Raises ValueError if the path is a file or a folder that is not empty.

    Also raises it if the path is not on this machine.
    """
    check_local(folder, "an index")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} exists and is not an empty folder; remove it or give the index "
            "another one"
        )


def write_index(
    folder: Path,
    *,
    kind: str,
    passages: Sequence[Passage],
    corpus_fingerprint: str,
    encoder: Encoder | None,
    scorer: dict[str, Any],
    vectors: VectorShards | None = None,
    write_more: Callable[[Path], None] = lambda folder: None,
    reason: str = "",
) -> None:
    """Writes an index that was made in memory to a new folder, or nothing at all.

    Args:
      folder: the folder.
      kind: the kind of index.
      passages: the corpus.
      corpus_fingerprint: its fingerprint.
      encoder: the encoder, if there is one.
      scorer: settings of the kind.
      vectors: the vectors, if there are any.
      write_more: writes other files of the kind to the folder that it gets.
      reason: why the index is of this kind.

    Raises:
      ValueError: if the folder exists and is not empty.
    """
    check_is_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f".{folder.name}-"
    ) as parent:
        new = Path(parent) / "index"
        new.mkdir()
        write_store(passages, new / PASSAGES)
        if encoder is not None:
            save_encoder(encoder, new / ENCODER)
        names = []
        if vectors is not None:
            (new / VECTORS).mkdir()
            for number, array in enumerate(vectors.arrays):
                names.append(f"{VECTORS}/{shard_name(number)}")
                write_shard(new / names[-1], array)
        write_more(new)
        new_manifest(
            new,
            {},
            kind=kind,
            num_passages=len(passages),
            dims=0 if vectors is None else vectors.dims,
            corpus_fingerprint=corpus_fingerprint,
            corpora=[],
            encoder_name="" if encoder is None else encoder.name,
            encoder_fingerprint="" if encoder is None else encoder.fingerprint,
            scorer=scorer,
            reason=reason,
            vectors=names,
        )
        os.replace(new, folder)


def read_index(
    folder: Path,
    *,
    corpus_fingerprint: str | None = None,
    encoder: Encoder | EncoderFactory | None = None,
    query_device: QueryDevice = "host",
    verify: bool = False,
    num_threads: int | None = None,
) -> StoredIndex:
    """Opens an index folder and checks that it is the expected one.

    Args:
      folder: the index.
      corpus_fingerprint: expected fingerprint of the corpus; None accepts any.
      encoder: the encoder that made the vectors, or a factory that makes it from the
        passages; None loads the encoder saved in the folder.
      query_device: where a saved encoder computes queries.
      verify: whether to compare the hashes of all files.
      num_threads: of a search with ScaNN; None means half of the host's cores,
        because decoding needs the others.

    Raises:
      ValueError: if the folder is damaged, or was built from another corpus or with
        another encoder.
    """
    manifest = Manifest.read(folder, verify=verify)
    if corpus_fingerprint not in (None, manifest.corpus_fingerprint):
        raise ValueError(
            f"index {folder} was built for another corpus: expected "
            f"{corpus_fingerprint}, found {manifest.corpus_fingerprint}; {REBUILD}"
        )
    passages = _read_passages(folder, manifest)
    return StoredIndex(
        folder=folder,
        manifest=manifest,
        passages=passages,
        encoder=_encoder(folder, manifest, passages, encoder, query_device),
        num_threads=num_threads,
    )


def _encoder(
    folder: Path,
    manifest: Manifest,
    passages: Sequence[Passage],
    given: Encoder | EncoderFactory | None,
    query_device: QueryDevice,
) -> Encoder | None:
    """The encoder of an index; None if it has none and none is given."""
    if given is not None:
        found = encoder_given(given, passages)
    elif (folder / ENCODER).is_dir():
        found = load_encoder(folder / ENCODER, query_device=query_device)
    else:
        return None
    if not manifest.encoder_fingerprint and found.dims == manifest.dims:
        return found  # built from vectors, without an encoder
    if found.fingerprint != manifest.encoder_fingerprint:
        raise ValueError(
            f"index {folder} was built with another encoder: expected {found.name} "
            f"{found.fingerprint}, found {manifest.encoder_name:.60} "
            f"{manifest.encoder_fingerprint:.60}; {REBUILD}"
        )
    return found


def _read_passages(folder: Path, manifest: Manifest) -> Sequence[Passage]:
    """The passages of an index.

    Raises:
      ValueError: if they are damaged, or do not fit the manifest.
    """
    is_old = manifest.format_version == 1
    name = _OLD_PASSAGES if is_old else PASSAGES
    if name not in manifest.files:
        raise ValueError(f"index {folder}: {name} is missing; {REBUILD}")
    passages: Sequence[Passage]
    if is_old:
        rows = read_corpus_rows(folder / name, BadRows(folder / name))
        passages = [Passage(id=row.id or "", contents=row.contents) for row in rows]
    else:
        passages = StoredPassages(folder / name)
    if len(passages) != manifest.num_passages:
        raise ValueError(
            f"index {folder}: expected {manifest.num_passages} passages, found "
            f"{len(passages)}; {REBUILD}"
        )
    if is_old:
        # Format 1 has no hashes.
        found = corpus_fingerprint(passages)
        if found != manifest.corpus_fingerprint:
            raise ValueError(
                f"index {folder}: its passages were changed: expected corpus "
                f"{manifest.corpus_fingerprint}, found {found}; {REBUILD}"
            )
    return passages
