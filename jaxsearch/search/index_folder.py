"""An index on disk, complete in one folder.

index.json          what the rest is, and the size of every other file
passages.jsonl.gz   the corpus
encoder/            written by the encoder
vectors/            written by the index: ScaNN's files, or the vectors themselves
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxsearch
from jaxsearch.search.encoder import Encoder, load_encoder
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
    files: dict[str, int]  # path below the folder: bytes

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Reads and checks `index.json`, and that every file has its size."""
        path = folder / "index.json"
        if not path.is_file():
            raise ValueError(f"{folder} is no index: {path} is missing; {REBUILD}")
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); {REBUILD}") from error
        expected = {field.name: field.type for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or fields.keys() != expected.keys():
            found = sorted(fields) if isinstance(fields, dict) else fields
            raise ValueError(
                f"{path}: expected the fields {sorted(expected)}, found {found!r}; "
                f"{REBUILD}"
            )
        for name, kind in expected.items():
            kind = dict if name in ("scorer", "files") else kind
            if not isinstance(fields[name], kind):
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
            if not (folder / name).is_file():
                raise ValueError(f"index {folder}: {name} is missing; {REBUILD}")
            found = (folder / name).stat().st_size
            if found != size:
                raise ValueError(
                    f"index {folder}: expected {name} to have {size} bytes, found "
                    f"{found}; {REBUILD}"
                )
        return cls(**fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredIndex:
    """What every index needs from its folder; its own files are in `vectors`."""

    manifest: Manifest
    passages: list[Passage]
    encoder: Encoder
    vectors: Path


def check_is_free(folder: Path) -> None:
    """Refuses a folder with anything in it, and a file."""
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
    """Writes an index whole or not at all; a folder with anything in it is refused."""
    check_is_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f".{folder.name}-"
    ) as parent:
        new = Path(parent) / "index"
        (new / "vectors").mkdir(parents=True)
        write_passages(passages, new / "passages.jsonl.gz")
        encoder.save(new / "encoder")
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
    encoder: Encoder | None,
) -> StoredIndex:
    """Reads what `write_index` wrote, and checks it.

    Args:
      kind: of index that the caller can read.
      corpus_fingerprint: if given, of the corpus that the index must hold.
      encoder: if given, the one that must have made the vectors; otherwise the saved
        one is loaded.
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
    if encoder is None:
        encoder = load_encoder(folder / "encoder")
    if encoder.fingerprint != manifest.encoder_fingerprint:
        raise ValueError(
            f"index {folder} was built with another encoder: expected {encoder.name} "
            f"{encoder.fingerprint}, found {manifest.encoder_name} "
            f"{manifest.encoder_fingerprint}; {REBUILD}"
        )
    passages = read_passages(folder / "passages.jsonl.gz")
    _check_passages(folder, manifest, passages)
    return StoredIndex(
        manifest=manifest,
        passages=passages,
        encoder=encoder,
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
