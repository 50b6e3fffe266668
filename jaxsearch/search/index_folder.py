"""Format of an index on disk. The folder holds everything that a search needs.

index.json          the manifest: fingerprints, and the size of every other file
passages.jsonl.gz   the corpus
encoder/            written by the encoder
vectors/            written by the index: ScaNN's files, or the vectors themselves
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jaxsearch
from jaxsearch.folder_files import check_links, file_inside
from jaxsearch.json_files import read_json
from jaxsearch.search.encoder import Encoder, EncoderFactory, save_encoder
from jaxsearch.search.encoder_options import QueryDevice
from jaxsearch.search.encoders import encoder_given, load_encoder
from jaxsearch.search.passages import (
    Passage,
    corpus_fingerprint,
    read_passages,
    write_passages,
)

FORMAT_VERSION = 1
REBUILD = (
    "rebuild with `jaxsearch index build --corpus FILE --encoder NAME_OR_DIR --out DIR`"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `index.json`."""

    format_version: int
    kind: str
    num_passages: int
    dims: int
    corpus_fingerprint: str
    encoder_name: str
    encoder_fingerprint: str
    scorer: dict[str, Any]
    jaxsearch_version: str
    files: dict[str, int]  # size in bytes of each file, by its path in the folder

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Reads `index.json` and checks it, and the name and size of every file.

        Files that the manifest does not list are refused, because libraries read what
        they find in a folder, such as a pickle. Hidden files beside `index.json` are
        not.

        Raises:
          ValueError: if the folder is no index, is damaged or has another format; or
            a file is outside of the folder, or not listed.
        """
        path = folder / "index.json"
        if not path.is_file():
            raise ValueError(f"{folder} is no index: {path} is missing; {REBUILD}")
        check_links(folder, [path])
        try:
            fields = read_json(path)
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); {REBUILD}") from error
        expected = {field.name: field.type for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or fields.keys() != expected.keys():
            found = sorted(fields) if isinstance(fields, dict) else fields
            raise ValueError(
                f"{path}: expected the fields {sorted(expected)}, found "
                f"{found!r:.400}; {REBUILD}"
            )
        for name, kind in expected.items():
            kind = dict if name in ("scorer", "files") else kind
            if type(fields[name]) is not kind:
                raise ValueError(
                    f"{path}: {name} must be of type {kind.__name__}, found "
                    f"{fields[name]!r:.60}; {REBUILD}"
                )
        if fields["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"{path}: expected format {FORMAT_VERSION}, found "
                f"{fields['format_version']}; {REBUILD}"
            )
        for name, size in fields["files"].items():
            if type(size) is not int:
                raise ValueError(
                    f"{path}: the size of {name!r:.60} must be an int, found "
                    f"{size!r:.60}; {REBUILD}"
                )
            file_inside(folder, name, str(path))
        _check_unlisted(folder, fields["files"].keys())
        for name, size in fields["files"].items():
            if not (folder / name).is_file():
                raise ValueError(f"index {folder}: {name} is missing; {REBUILD}")
            found = (folder / name).stat().st_size
            if found != size:
                raise ValueError(
                    f"index {folder}: expected {name} to have {size} bytes, found "
                    f"{found}; {REBUILD}"
                )
        return cls(**fields)


def _check_unlisted(folder: Path, listed: Collection[str]) -> None:
    """Raises ValueError if the folder has a file or a link that is not listed."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_known = name in listed or name == "index.json" or name.startswith(".")
        is_plain_folder = path.is_dir() and not path.is_symlink()
        if not (is_known or is_plain_folder):
            raise ValueError(
                f"index {folder}: {name} is not listed in index.json, so it was not "
                "written with the index; nothing was opened; remove it, or get the "
                "index from whoever built it"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredIndex:
    """The parts of an index folder that all kinds of index share.

    Attributes:
      vectors: folder with the files of one kind of index.
    """

    manifest: Manifest
    passages: list[Passage]
    encoder: Encoder
    vectors: Path


def check_is_free(folder: Path) -> None:
    """Raises ValueError if the path is a file or a folder that is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} exists and is not an empty folder; remove it or give the index "
            "another one"
        )


def write_index(
    folder: Path,
    *,
    kind: str,
    passages: list[Passage],
    corpus_fingerprint: str,
    encoder: Encoder,
    scorer: dict[str, Any],
    write_vectors: Callable[[Path], None],
) -> None:
    """Writes an index to a new folder, completely or not at all.

    Raises:
      ValueError: if the folder exists and is not empty.
    """
    check_is_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f".{folder.name}-"
    ) as parent:
        new = Path(parent) / "index"
        (new / "vectors").mkdir(parents=True)
        write_passages(passages, new / "passages.jsonl.gz")
        save_encoder(encoder, new / "encoder")
        write_vectors(new / "vectors")
        files = {
            path.relative_to(new).as_posix(): path.stat().st_size
            for path in sorted(new.rglob("*"))
            if path.is_file()
        }
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            kind=kind,
            num_passages=len(passages),
            dims=encoder.dims,
            corpus_fingerprint=corpus_fingerprint,
            encoder_name=encoder.name,
            encoder_fingerprint=encoder.fingerprint,
            scorer=scorer,
            jaxsearch_version=jaxsearch.__version__,
            files=files,
        )
        content = json.dumps(dataclasses.asdict(manifest), indent=2)
        (new / "index.json").write_text(content + "\n", encoding="utf-8")
        os.replace(new, folder)


def read_index(
    folder: Path,
    *,
    kind: str,
    corpus_fingerprint: str | None,
    encoder: Encoder | EncoderFactory | None,
    query_device: QueryDevice = "host",
) -> StoredIndex:
    """Reads and checks an index written by `write_index`.

    Args:
      kind: the kind of index that the caller can read.
      corpus_fingerprint: expected fingerprint of the corpus; None accepts any.
      encoder: the encoder that made the vectors, or a factory that makes it from the
        passages; None loads the encoder saved in the folder.
      query_device: where a saved encoder computes queries.

    Raises:
      ValueError: if the folder is damaged, or was built from another corpus or with
        another encoder.
    """
    manifest = Manifest.read(folder)
    if manifest.kind != kind:
        raise ValueError(
            f"index {folder}: expected one of kind {kind!r}, found {manifest.kind!r}; "
            "load it with `load_index`"
        )
    if corpus_fingerprint not in (None, manifest.corpus_fingerprint):
        raise ValueError(
            f"index {folder} was built for another corpus: expected "
            f"{corpus_fingerprint}, found {manifest.corpus_fingerprint}; {REBUILD}"
        )
    passages = read_passages(folder / "passages.jsonl.gz")
    _check_passages(folder, manifest, passages)
    if encoder is None:
        found = load_encoder(folder / "encoder", query_device=query_device)
    else:
        found = encoder_given(encoder, passages)
    if found.fingerprint != manifest.encoder_fingerprint:
        raise ValueError(
            f"index {folder} was built with another encoder: expected {found.name} "
            f"{found.fingerprint}, found {manifest.encoder_name:.60} "
            f"{manifest.encoder_fingerprint:.60}; {REBUILD}"
        )
    return StoredIndex(
        manifest=manifest,
        passages=passages,
        encoder=found,
        vectors=folder / "vectors",
    )


def _check_passages(folder: Path, manifest: Manifest, passages: list[Passage]) -> None:
    if len(passages) != manifest.num_passages:
        raise ValueError(
            f"index {folder}: expected {manifest.num_passages} passages, found "
            f"{len(passages)}; {REBUILD}"
        )
    found = corpus_fingerprint(passages)
    if found != manifest.corpus_fingerprint:
        raise ValueError(
            f"index {folder}: its passages were changed: expected corpus "
            f"{manifest.corpus_fingerprint}, found {found}; {REBUILD}"
        )
