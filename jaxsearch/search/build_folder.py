"""An index folder that is being built, which continues where a stopped build ended."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsearch.json_files import read_json_object
from jaxsearch.json_lines import replace_file
from jaxsearch.local_paths import check_local
from jaxsearch.search.encoder import Encoder, save_encoder
from jaxsearch.search.index_folder import ENCODER, PASSAGES, VECTORS, check_is_free
from jaxsearch.search.manifest import (
    BUILDING,
    MANIFEST,
    Corpus,
    FileRecord,
    file_record,
    new_manifest,
)
from jaxsearch.search.stored_corpus import StoredCorpus
from jaxsearch.search.vector_shards import shard_name, write_shard

NO_ENCODER = "none"  # in place of the name of an encoder
_LOCK = ".lock"
# What a write fails with when a disk, a quota or the size of a file is at its limit.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BuildFolder:
    """The folder of an index, before its manifest is written.

    Each step is recorded in a hidden file once its files are complete. Only one process
    builds into a folder.

    Args:
      folder: a new or empty folder, or that of a build that was stopped.
      request: what decides the content, as JSON values; a build continues only with the
        request that began it.

    Raises:
      ValueError: if the folder is not free, another process builds into it, or it was
        begun with another request.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any]):
        check_local(folder, "an index")
        self.path = folder
        self._was_there = folder.is_dir()
        there = {path.name for path in folder.iterdir()} if self._was_there else set()
        if MANIFEST in there or (BUILDING not in there and there != {_LOCK}):
            check_is_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        try:
            self._record = self._begun(json.loads(json.dumps(request)))
        except ValueError:
            os.close(self._lock)
            raise
        self._write_record()
        self._remove_pieces()

    def __enter__(self) -> "BuildFolder":
        return self

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        if error is not None and self.corpus is None:
            self._record["files"] = {}
            self._remove_pieces()
            (self.path / BUILDING).unlink()
            (self.path / _LOCK).unlink()
            if not self._was_there:
                shutil.rmtree(self.path)
        os.close(self._lock)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise ValueError(
                f"{self.path}: {error.strerror or error}; what is complete is kept: "
                "make room, then the same command continues"
            ) from error

    @property
    def corpus(self) -> StoredCorpus | None:
        """The stored corpus; None until it is complete."""
        found = self._record["corpus"]
        if found is None:
            return None
        return StoredCorpus(
            found["fingerprint"], [Corpus(**one) for one in found["corpora"]]
        )

    def set_corpus(self, corpus: StoredCorpus) -> None:
        """Records that the passages are complete."""
        self._record["corpus"] = {
            "fingerprint": corpus.fingerprint,
            "corpora": [one._asdict() for one in corpus.corpora],
        }
        self._keep(PASSAGES, file_record(self.path / PASSAGES))

    @property
    def has_encoder(self) -> bool:
        return (self.path / ENCODER).is_dir()

    def save_encoder(self, encoder: Encoder) -> None:
        """Saves the encoder, completely or not at all."""
        temporary = self.path / f".{ENCODER}"
        save_encoder(encoder, temporary)
        os.replace(temporary, self.path / ENCODER)

    def has_shard(self, number: int) -> bool:
        """Whether the vectors of a shard are complete."""
        name = _shard(number)
        record = self._record["files"].get(name)
        path = self.path / name
        return (
            record is not None
            and path.is_file()
            and path.stat().st_size == record["bytes"]
        )

    def write_shard(
        self, number: int, vectors: Float[np.ndarray, "rows dims"], **counts: int
    ) -> None:
        """Writes the vectors of a shard and records them.

        Args:
          number: the shard.
          vectors: its rows.
          **counts: numbers to keep with it.
        """
        path = self.path / _shard(number)
        path.parent.mkdir(exist_ok=True)
        write_shard(path, vectors)
        self._record["counts"] = counts
        self._keep(_shard(number), file_record(path))

    def take_file(self, name: str, source: Path, record: FileRecord) -> None:
        """Takes a file from another folder: the same one if both are on one disk."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            os.link(source, path)
        except OSError:  # of another disk
            shutil.copyfile(source, path)
        self._keep(name, record)

    @property
    def counts(self) -> dict[str, int]:
        """The numbers that were kept with the last shard."""
        return dict(self._record["counts"])

    def finish(
        self,
        *,
        kind: str,
        encoder: Encoder | None,
        dims: int,
        scorer: dict[str, Any],
        reason: str,
        vectors: Sequence[str] = (),
        encoder_name: str = NO_ENCODER,
        encoder_fingerprint: str = "",
    ) -> None:
        """Writes the manifest: from then on, the folder is an index.

        Args:
          kind: kind of the index.
          encoder: its encoder, if there is one.
          dims: width of its vectors, 0 without any.
          scorer: settings of the kind.
          reason: why it is of this kind.
          vectors: names of the files of its vectors.
          encoder_name: name of what stands in place of an encoder.
          encoder_fingerprint: likewise.
        """
        stored = self.corpus
        if stored is None:
            raise ValueError(f"{self.path}: the passages are not complete")
        if encoder is not None:
            encoder_name, encoder_fingerprint = encoder.name, encoder.fingerprint
        known = {name: FileRecord(**one) for name, one in self._record["files"].items()}
        new_manifest(
            self.path,
            known,
            kind=kind,
            num_passages=stored.num_passages,
            dims=dims,
            corpus_fingerprint=stored.fingerprint,
            corpora=stored.corpora,
            encoder_name=encoder_name,
            encoder_fingerprint=encoder_fingerprint,
            scorer=scorer,
            reason=reason,
            vectors=list(vectors),
        )
        (self.path / BUILDING).unlink(missing_ok=True)
        (self.path / _LOCK).unlink()

    def _keep(self, name: str, record: FileRecord) -> None:
        self._record["files"][name] = record._asdict()
        self._write_record()

    def _write_record(self) -> None:
        replace_file(self.path / BUILDING, json.dumps(self._record).encode())

    def _begun(self, request: dict[str, Any]) -> dict[str, Any]:
        """The record of the build, or a new one if no vectors would be lost.

        Raises:
          ValueError: if there are vectors of another request.
        """
        new = {"request": request, "corpus": None, "files": {}, "counts": {}}
        if not (self.path / BUILDING).is_file():
            return new
        record = read_json_object(self.path / BUILDING)
        begun = record.get("request", {})
        if begun == request and record.keys() == new.keys():
            return record
        if any(name.startswith(VECTORS) for name in record.get("files", ())):
            other = [name for name in request if request[name] != begun.get(name)]
            name = (other or ["version"])[0]
            raise ValueError(
                f"{self.path} holds a build that was begun with {name} "
                f"{begun.get(name)!r:.120}, now it is {request.get(name)!r:.120}; "
                "repeat the command that began it, or remove the folder"
            )
        shutil.rmtree(self.path / ENCODER, ignore_errors=True)
        (self.path / BUILDING).unlink()
        return new

    def _locked(self) -> int:
        file = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise ValueError(
                f"another process builds an index in {self.path}; wait for it, or give "
                "another folder"
            ) from None
        return file

    def _remove_pieces(self) -> None:
        """Removes what a stopped build left incomplete."""
        kept = {BUILDING, _LOCK, *self._record["files"]}
        for path in sorted(self.path.rglob("*"), reverse=True):
            name = path.relative_to(self.path).as_posix()
            if path.is_dir() or name.startswith(f"{ENCODER}/") or name in kept:
                continue
            path.unlink()


def _shard(number: int) -> str:
    return f"{VECTORS}/{shard_name(number)}"
