"""Duplicate ids of a corpus that is too large to keep its ids in memory."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Ids are sorted by this many parts of their hashes, one part in memory at a time.
_NUM_PARTS = 64
_BUFFERED = 1 << 20  # ids in memory before they are written
_RECORD = np.dtype(
    [("hash", "<u8"), ("position", "<u8"), ("file", "<u4"), ("line", "<u4")]
)


class Place(NamedTuple):
    """Where a passage comes from.

    Attributes:
      position: in the stored corpus.
      file: number of its file.
      line: its line in it.
    """

    position: int
    file: int
    line: int


class DuplicateIds:
    """Finds ids that occur twice, with 24 bytes on disk for each id.

    Ids are compared by 64 bits of their hash, so the caller compares the ids of each
    pair.

    Args:
      folder: a folder for temporary files, which `close` removes.
    """

    def __init__(self, folder: Path):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._records: list[tuple[int, int, int, int]] = []
        self._is_written = False

    def add(self, id_: str, place: Place) -> None:
        digest = hashlib.blake2b(id_.encode(), digest_size=8).digest()
        self._records.append((int.from_bytes(digest, "little"), *place))
        if len(self._records) >= _BUFFERED:
            self._write()

    def pairs(self) -> Iterator[tuple[Place, Place]]:
        """Yields each later place of a hash with the first one."""
        if not self._is_written:
            yield from _pairs(np.array(self._records, _RECORD))
            return
        self._write()
        for part in range(_NUM_PARTS):
            path = self._folder / str(part)
            if path.exists():
                yield from _pairs(np.fromfile(path, _RECORD))

    def close(self) -> None:
        self._records.clear()
        shutil.rmtree(self._folder)

    def _write(self) -> None:
        records = np.array(self._records, _RECORD)
        self._records.clear()
        self._is_written = True
        parts = (records["hash"] % _NUM_PARTS).astype(np.uint8)
        for part in np.unique(parts):
            with (self._folder / str(part)).open("ab") as file:
                file.write(records[parts == part].tobytes())


def _pairs(records: np.ndarray) -> Iterator[tuple[Place, Place]]:
    records = records[np.argsort(records, order=("hash", "position"))]
    hashes = records["hash"]
    first = 0  # row of the first place of a hash
    for row in range(1, len(records)) if _has_twins(hashes) else ():
        if hashes[row] != hashes[first]:
            first = row
        else:
            yield Place(*records[first].item()[1:]), Place(*records[row].item()[1:])


def _has_twins(hashes: np.ndarray) -> bool:
    return bool((hashes[1:] == hashes[:-1]).any())
