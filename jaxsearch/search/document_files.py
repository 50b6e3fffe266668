"""Passages of a folder of documents, written as a corpus."""

import codecs
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxsearch.bad_rows import Note, print_note
from jaxsearch.folder_files import check_links
from jaxsearch.local_paths import check_local
from jaxsearch.search.chunks import ChunkSize, chunks
from jaxsearch.search.corpus_files import titled_contents
from jaxsearch.search.document_text import (
    Document,
    html_document,
    markdown_document,
    plain_document,
)

_READERS: dict[str, Callable[[str], Document]] = {
    ".txt": plain_document,
    ".md": markdown_document,
    ".markdown": markdown_document,
    ".html": html_document,
    ".htm": html_document,
}
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def chunk_folder(
    folder: str | Path,
    out: str | Path,
    *,
    size: ChunkSize,
    skip_bad_files: bool = False,
    note: Note = print_note,
) -> dict[str, Any]:
    """Writes the passages of all documents in a folder to a JSONL file.

    Files are read in the order of their names, those in folders below it as well;
    hidden ones are not. The id of a passage is the path of its file in the folder and
    its number there, as in "guides/start.md#2", so no two are equal. Its first line is
    the document's title, or the name of the file if it has none.

    Args:
      folder: with .txt, .md and .html files in UTF-8.
      out: the file to write, whole or not at all; it must not exist.
      size: of the passages.
      skip_bad_files: whether to continue without files that cannot be read as text.
      note: receives one line for the user about files that were skipped.

    Returns:
      Counts of files, passages and words.

    Raises:
      ValueError: if there is no text, a file is not UTF-8 and not skipped, or `out`
        exists or is not named *.jsonl.
    """
    folder, out = Path(folder), Path(out)
    check_local(folder, "the folder of documents")
    check_local(out, "--out")
    if not out.name.endswith(".jsonl"):
        raise ValueError(f"{out}: passages are written to a file named *.jsonl")
    if out.exists():
        raise ValueError(f"{out} exists; remove it or give another --out")
    paths = _documents(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    counts = {"files": 0, "empty_files": 0, "bad_files": 0, "passages": 0, "words": 0}
    bad: list[str] = []
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".chunk-") as parent:
        new = Path(parent) / out.name
        with new.open("w", encoding="utf-8") as file:
            for path in paths:
                try:
                    contents = list(_passages(folder, path, size))
                except _BadFileError as error:
                    bad.append(str(error))
                    continue
                counts["files"] += 1
                counts["empty_files"] += not contents
                for id_, text in contents:
                    line = json.dumps({"id": id_, "contents": text}, ensure_ascii=False)
                    file.write(line + "\n")
                    counts["passages"] += 1
                    counts["words"] += len(text.partition("\n")[2].split())
        counts["bad_files"] = len(bad)
        _settle(bad, len(paths), skip_bad_files, note)
        if not counts["passages"]:
            raise ValueError(f"{folder}: none of {len(paths):,} files has text")
        os.replace(new, out)
    return {"out": str(out), "bytes": out.stat().st_size, **counts}


class _BadFileError(ValueError):
    """A file that cannot be read as text."""


def _documents(folder: Path) -> list[Path]:
    """The documents of a folder, in the order of their names.

    Raises:
      ValueError: if it is no folder, has none, or one is a link out of the folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; expected one with documents")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _READERS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise ValueError(f"{folder} has no file named *{', *'.join(_READERS)}")
    check_links(folder, found)
    return found


def _settle(bad: list[str], num_files: int, skip: bool, note: Note) -> None:
    if not bad:
        return
    more = f"; and {len(bad) - 3:,} more" if len(bad) > 3 else ""
    said = f"{len(bad):,} of {num_files:,} files are bad: {'; '.join(bad[:3])}{more}"
    if not skip:
        raise ValueError(
            f"{said}; correct them, or leave them out with --skip-bad-files"
        )
    note(f"{said}; skipped")


def _passages(folder: Path, path: Path, size: ChunkSize) -> Iterator[tuple[str, str]]:
    """Ids and contents of the passages of a file."""
    document = _READERS[path.suffix.lower()](_text(path))
    name = path.relative_to(folder).as_posix()
    title = document.title or path.stem
    for number, text in enumerate(chunks(document.text, size), start=1):
        yield f"{name}#{number}", titled_contents(title, text)


def _text(path: Path) -> str:
    """The characters of a file in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
      _BadFileError: if the file, or its name, is not text.
    """
    try:
        str(path).encode()
        raw = path.read_bytes()
        encoding = next(
            (name for mark, name in _MARKS if raw.startswith(mark)), "utf-8"
        )
        return raw.decode(encoding).removeprefix("\ufeff").replace("\0", " ")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _BadFileError(
            f"{path}, line {line}: expected UTF-8, got byte "
            f"0x{error.object[error.start]:02x}"
        ) from error
    except UnicodeEncodeError as error:
        raise _BadFileError(f"{path!r}: its name is not UTF-8") from error
    except OSError as error:
        raise _BadFileError(f"{path} cannot be read: {error.strerror}") from error
