"""SHA-256 of the files of a prepared set."""

import hashlib
from pathlib import Path

from jaxsearch.json_files import read_json_object

CHECKSUMS = "checksums.json"


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in a folder except `checksums.json`, by name."""
    files = sorted(path for path in folder.iterdir() if path.name != CHECKSUMS)
    return {path.name: file_sha256(path) for path in files}


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path) -> None:
    """Checks that a folder has exactly the files that were written, unchanged.

    Raises:
      ValueError: naming the first file that is missing, new or changed.
      OSError: if `checksums.json` cannot be read.
    """
    expected = read_json_object(folder / CHECKSUMS)
    found = checksums(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise ValueError(f"{name} is missing")
        if name not in expected:
            raise ValueError(f"{name} does not belong to it")
        if found[name] != expected[name]:
            raise ValueError(f"{name} has changed")
