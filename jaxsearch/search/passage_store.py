"""Passages in a file, found by their positions in the corpus.

The file is an ArrayRecord: compressed groups of records with a table of the groups'
places. Only the table is in memory, about a byte per passage. A record holds the
length of the id, the id and the contents.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

from jaxsearch.array_records import ArrayRecords, array_record_module
from jaxsearch.search.passages import Passage

# Records that are compressed together. One alone takes a third more space; in larger
# groups a passage takes longer to find.
_GROUP = 8
_LENGTH_BYTES = 4
_BLOCK = 1024  # passages that iteration holds in memory


def write_store(passages: Iterable[Passage], path: Path) -> None:
    """Writes passages to a new file; equal passages give equal bytes."""
    module = array_record_module()
    try:
        writer = module.ArrayRecordWriter(str(path), f"group_size:{_GROUP},zstd:3")
        for passage in passages:
            writer.write(_record(passage))
        writer.close()
    except RuntimeError as error:  # such as a full disk
        raise OSError(f"{path} could not be written: {_one_line(error)}") from error


class StoredPassages(Sequence[Passage]):
    """The passages of a file written by `write_store`; threads may share it.

    Raises:
      ValueError: if the file is damaged; reading a passage may raise it too.
    """

    def __init__(self, path: Path):
        self._records = ArrayRecords(path, "get the index again, or build it")

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, position: int) -> Passage: ...
    @overload
    def __getitem__(self, position: slice) -> list[Passage]: ...
    def __getitem__(self, position: int | slice) -> Passage | list[Passage]:
        if isinstance(position, slice):
            return self.read(range(len(self))[position])
        return self.read([range(len(self))[position]])[0]

    def __iter__(self) -> Iterator[Passage]:
        for start in range(0, len(self), _BLOCK):
            yield from self.read(range(start, min(start + _BLOCK, len(self))))

    def read(self, positions: Sequence[int]) -> list[Passage]:
        """Passages at these positions, in this order; far faster than one by one."""
        wanted = sorted({int(position) for position in positions})
        records = self._records.read(wanted)
        try:
            read = [_passage(record) for record in records]
        except ValueError as error:
            raise self._records.damaged(error) from error
        found = dict(zip(wanted, read, strict=True))
        return [found[int(position)] for position in positions]


def passages_at(passages: Sequence[Passage], positions: Sequence[int]) -> list[Passage]:
    """Passages at these positions, of a file or a list."""
    if isinstance(passages, StoredPassages):
        return passages.read(positions)
    return [passages[position] for position in positions]


def blocks_of(passages: Iterable[Passage], size: int) -> Iterator[list[Passage]]:
    """Consecutive lists of `size` passages; the last one may be shorter."""
    iterator = iter(passages)
    while block := list(itertools.islice(iterator, size)):
        yield block


def _record(passage: Passage) -> bytes:
    id_ = passage.id.encode()
    length = len(id_).to_bytes(_LENGTH_BYTES, "little")
    return length + id_ + passage.contents.encode()


def _passage(record: bytes) -> Passage:
    end = _LENGTH_BYTES + int.from_bytes(record[:_LENGTH_BYTES], "little")
    if end > len(record):
        raise ValueError("a record without its id")
    return Passage(
        id=record[_LENGTH_BYTES:end].decode(), contents=record[end:].decode()
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
