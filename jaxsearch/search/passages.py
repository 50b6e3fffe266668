"""Passages, and the corpus files that contain them."""

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from jaxsearch.bad_rows import BadRows, Note, print_note
from jaxsearch.hub_files import fetched
from jaxsearch.search.corpus_files import (
    CORPUS_SUFFIXES,
    corpus_shards,
    read_corpus_rows,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passage:
    """One retrievable text. The first line of `contents` is its title."""

    id: str
    contents: str

    @property
    def title(self) -> str:
        return self.contents.partition("\n")[0].strip().strip('"')

    @property
    def text(self) -> str:
        return self.contents.partition("\n")[2]


def read_passages(
    path: str | Path, *, skip_bad_rows: bool = False, note: Note = print_note
) -> list[Passage]:
    """Reads a corpus into memory: a file, or a folder of such files.

    Files are JSONL, tab-separated (TSV), both gzipped or not, or parquet. JSONL lines
    are `{"id", "contents"}` or `{"id", "title", "text"}`, and parquet has these
    columns; the second becomes the first with `contents = '"{title}"\\n{text}'`. TSV
    has the columns `id` and `text`, of which the text is kept unchanged, or DPR's
    `id`, `text` and `title`, as `tsv_corpus.tsv_rows` describes. Blank lines are
    skipped. An integer id becomes its decimal text; a row without a usable id gets its
    line number, as in "row7".

    Args:
      path: the file or folder, or `hf://OWNER/NAME[/FILE][@REVISION]` for a file of a
        data set on the Hugging Face Hub.
      skip_bad_rows: whether to continue without rows that are malformed.
      note: receives one line for the user about rows that were changed or skipped.

    Raises:
      ValueError: if a file is missing, empty or damaged, or rows are malformed and not
        skipped; the message names the file and the lines.
    """
    passages = []
    place_of_id: dict[str, str] = {}
    for file in corpus_files(path):
        for number, passage in file.rows():
            place = f"{file.unit} {number}"
            if passage.id in place_of_id:
                file.bad_rows.add(
                    f"{file.path}, {place}: id {passage.id!r:.80} was already used in "
                    f"{place_of_id[passage.id]}; ids must be unique"
                )
                continue
            is_only = file.prefix == ""
            place_of_id[passage.id] = place if is_only else f"{file.path}, {place}"
            passages.append(passage)
        file.settle(skip_bad_rows=skip_bad_rows, note=note)
    if not passages:
        raise ValueError(
            f"{path}: expected at least one passage, the file has no good row"
        )
    return passages


class CorpusFile:
    """One file of a corpus, read row by row.

    Attributes:
      path: the file.
      prefix: begins the ids of rows without one, if the corpus has several files.
      bad_rows: the malformed rows so far.
    """

    def __init__(self, path: Path, prefix: str):
        self.path, self.prefix = path, prefix
        self.unit = "row" if path.name.endswith(".parquet") else "line"
        self.bad_rows = BadRows(path)
        self._num_numbered, self._first_numbered = 0, ""

    def rows(self) -> Iterator[tuple[int, Passage]]:
        """Yields line numbers and passages; collects malformed rows.

        Raises:
          ValueError: if the file cannot be read.
        """
        for number, id_, contents in read_corpus_rows(self.path, self.bad_rows):
            if not contents.strip(' \t\r\n"'):
                self.bad_rows.add(
                    f"{self.path}, {self.unit} {number}: the passage has no text"
                )
                continue
            if id_ is None:
                id_ = f"{self.prefix}row{number}"
                self._num_numbered += 1
                self._first_numbered = self._first_numbered or id_
            yield number, Passage(id=id_, contents=contents)

    def settle(self, *, skip_bad_rows: bool, note: Note) -> None:
        """Refuses or notes malformed rows, and notes rows that got an id.

        Raises:
          ValueError: if there are malformed rows, and they are not skipped.
        """
        self.bad_rows.settle(skip=skip_bad_rows, note=note)
        if self._num_numbered:
            note(
                f"{self.path}: {self._num_numbered:,} of {self.bad_rows.num_rows:,} "
                "passages have no usable id and got their line numbers, such as "
                f"{self._first_numbered!r:.80}"
            )


def corpus_files(path: str | Path) -> list[CorpusFile]:
    """The files of a corpus, which is a file, a folder, or a file on the Hub.

    Raises:
      ValueError: if a folder has none, or the Hub does not.
    """
    shards = corpus_shards(fetched(path, CORPUS_SUFFIXES))
    is_only = len(shards) == 1
    return [CorpusFile(shard, "" if is_only else f"{shard.name}-") for shard in shards]


def write_passages(passages: Sequence[Passage], path: str | Path) -> None:
    """Writes `{"id", "contents"}` lines to a .jsonl or .jsonl.gz file.

    Raises:
      ValueError: if the path has another suffix.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"{path}: passages are written as .jsonl or .jsonl.gz")
    lines = (
        json.dumps(dataclasses.asdict(passage), ensure_ascii=False).encode() + b"\n"
        for passage in passages
    )
    if path.suffix == ".gz":
        # Without a name and a time stamp, the same passages give the same bytes.
        with (
            path.open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as stream,
        ):
            stream.writelines(lines)
    else:
        with path.open("wb") as stream:
            stream.writelines(lines)


class CorpusHash:
    """Hash of all ids and texts of a corpus, in order."""

    def __init__(self):
        self._digest = hashlib.sha256()

    def add(self, passage: Passage) -> None:
        for field in (passage.id.encode(), passage.contents.encode()):
            # The length makes ("ab", "c") differ from ("a", "bc").
            self._digest.update(len(field).to_bytes(8, "little"))
            self._digest.update(field)

    @property
    def fingerprint(self) -> str:
        """32 hex digits."""
        return self._digest.hexdigest()[:32]


def corpus_fingerprint(passages: Iterable[Passage]) -> str:
    """The fingerprint of a corpus."""
    whole = CorpusHash()
    for passage in passages:
        whole.add(passage)
    return whole.fingerprint
