"""Hashes of a checkpoint's files: written when it is complete, compared before use.

Sizes and structure do not show a bit that a disk or a copy has changed, and most such
bits would be read as other parameters.
"""

import concurrent.futures
import hashlib
import json
from pathlib import Path

from jaxsearch.folder_files import file_inside
from jaxsearch.json_files import read_json_object
from jaxsearch.json_lines import replace_file

# File in a checkpoint's folder: relative path -> [bytes, SHA-256].
HASHES = "hashes.json"
# Reading and hashing take turns in each thread; hashlib releases Python's lock.
_THREADS = 4


def write_hashes(checkpoint: Path) -> None:
    """Records size and SHA-256 of every file of a complete checkpoint.

    A process that is killed between the two leaves a checkpoint without hashes, of
    which only sizes and structure are checked, as of those of earlier versions.
    """
    found = _hashes(checkpoint, _files(checkpoint))
    replace_file(checkpoint / HASHES, json.dumps(found, indent=1).encode())


def changed_file(checkpoint: Path) -> str:
    """Describes the first file that is not as it was written; "" if all are.

    Every byte is read. A checkpoint without a record counts as unchanged.
    """
    path = checkpoint / HASHES
    if not path.is_file():
        return ""
    try:
        recorded = {
            str(name): (int(size), str(digest))
            for name, (size, digest) in read_json_object(path).items()
        }
    except (ValueError, TypeError, OverflowError):
        return f"{HASHES} is damaged"
    for name, (size, _) in recorded.items():
        try:
            file = file_inside(checkpoint, name, HASHES)
        except ValueError:
            return f"{HASHES} names {name!r:.100}, which is no file of the checkpoint"
        if not file.is_file():
            return f"{name} is missing"
        if (there := file.stat().st_size) != size:
            return f"{name} has {there} of {size} bytes"
    unlisted = set(_files(checkpoint)) - recorded.keys()
    if unlisted:
        return f"{min(unlisted)} is not in {HASHES}"
    found = _hashes(checkpoint, list(recorded))
    changed = [name for name in recorded if found[name] != recorded[name]]
    return f"{changed[0]} was changed: its SHA-256 is another one" if changed else ""


def _files(checkpoint: Path) -> list[str]:
    """Relative paths of a checkpoint's files but that of the hashes, sorted."""
    paths = (path for path in checkpoint.rglob("*") if path.is_file())
    names = {path.relative_to(checkpoint).as_posix() for path in paths}
    return sorted(names - {HASHES})


def _hashes(checkpoint: Path, names: list[str]) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of files, by name."""

    def of(name: str) -> tuple[int, str]:
        with (checkpoint / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), digest

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(of, names), strict=True))
