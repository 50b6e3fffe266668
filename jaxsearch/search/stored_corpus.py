"""Corpora that are read row by row into the passage file of an index."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxsearch.bad_rows import BadRows, Note
from jaxsearch.search.duplicate_ids import DuplicateIds, Place
from jaxsearch.search.manifest import Corpus
from jaxsearch.search.passage_store import StoredPassages, write_store
from jaxsearch.search.passages import CorpusFile, CorpusHash, Passage, corpus_files

# Also the interval of progress reports, in passages.
_REPORTED = 4096


class StoredCorpus(NamedTuple):
    """What was stored."""

    fingerprint: str
    corpora: list[Corpus]

    @property
    def num_passages(self) -> int:
        return sum(corpus.num_passages for corpus in self.corpora)


def store_corpora(
    paths: Sequence[str | Path],
    path: Path,
    *,
    skip_bad_rows: bool,
    note: Note,
    report: Callable[[int], None] = lambda num_done: None,
) -> StoredCorpus:
    """Reads corpora into one passage file, without keeping them in memory.

    Args:
      paths: the corpora, each a file or a folder as `read_passages` takes them.
      path: the file to write.
      skip_bad_rows: whether to continue without malformed rows.
      note: receives lines for the user about rows that were changed or skipped.
      report: receives the number of passages so far.

    Raises:
      ValueError: if a corpus cannot be read or is empty, or rows are malformed or have
        the id of another row, and they are not skipped.
    """
    reader = _Reader(paths, path.with_name(".ids"), skip_bad_rows, note, report)
    temporary = path.with_name(f".{path.name}")
    try:
        write_store(reader.passages(), temporary)
        again = reader.duplicates(StoredPassages(temporary))
    finally:
        reader.ids.close()
    if again:
        # Duplicates that are skipped, which are rare: everything else is written anew.
        kept = (p for n, p in enumerate(StoredPassages(temporary)) if n not in again)
        whole = CorpusHash()
        write_store(_hashed(kept, whole), path)
        temporary.unlink()
        return StoredCorpus(whole.fingerprint, reader.corpora(again))
    os.replace(temporary, path)
    return StoredCorpus(reader.whole.fingerprint, reader.corpora(again))


def _hashed(passages: Iterator[Passage], whole: CorpusHash) -> Iterator[Passage]:
    for passage in passages:
        whole.add(passage)
        yield passage


class _Reader:
    """Reads corpora in order, and knows where each passage comes from."""

    def __init__(
        self,
        paths: Sequence[str | Path],
        folder: Path,
        skip_bad_rows: bool,
        note: Note,
        report: Callable[[int], None],
    ):
        self._corpora = [(path, corpus_files(path)) for path in paths]
        self._files: list[CorpusFile] = []
        self._ends: list[int] = []  # of the corpora, in passages
        self._skip, self._note, self._report = skip_bad_rows, note, report
        self.ids = DuplicateIds(folder)
        self.whole = CorpusHash()

    def passages(self) -> Iterator[Passage]:
        """Yields all passages."""
        position = 0
        for path, files in self._corpora:
            begin = position
            for file in files:
                number = len(self._files)
                self._files.append(file)
                for line, passage in file.rows():
                    self.ids.add(passage.id, Place(position, number, line))
                    self.whole.add(passage)
                    yield passage
                    position += 1
                    if position % _REPORTED == 0:
                        self._report(position)
                file.settle(skip_bad_rows=self._skip, note=self._note)
            if position == begin:
                raise ValueError(
                    f"{path}: expected at least one passage, found no good row"
                )
            self._ends.append(position)
        self._report(position)

    def duplicates(self, stored: StoredPassages) -> set[int]:
        """Positions of passages with the id of an earlier one, if they are skipped.

        Raises:
          ValueError: naming the first of them, if they are not skipped.
        """
        found: set[int] = set()
        faults: dict[int, BadRows] = {}
        for first, later in self.ids.pairs():
            one, other = stored.read([first.position, later.position])
            if one.id != other.id:
                continue
            found.add(later.position)
            file = self._files[later.file]
            if later.file not in faults:
                num_rows = file.bad_rows.num_rows
                faults[later.file] = BadRows(file.path, num_rows=num_rows)
            faults[later.file].add(
                f"{self._place(later)}: id {one.id!r:.80} was already used in "
                f"{self._place(first)}; ids must be unique"
            )
        for _, bad_rows in sorted(faults.items()):
            bad_rows.settle(skip=self._skip, note=self._note)
        return found

    def corpora(self, left_out: set[int]) -> list[Corpus]:
        """Names and sizes of the corpora, without the passages left out."""
        sizes, begin = [], 0
        for end in self._ends:
            sizes.append(end - begin - sum(begin <= n < end for n in left_out))
            begin = end
        return [
            Corpus(Path(path).name, size)
            for (path, _), size in zip(self._corpora, sizes, strict=True)
        ]

    def _place(self, place: Place) -> str:
        file = self._files[place.file]
        return f"{file.path}, {file.unit} {place.line}"
