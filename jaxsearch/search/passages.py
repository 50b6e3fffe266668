"""Passages, and the corpus files that contain them."""

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from jaxsearch.bad_rows import BadRows, Note, print_note
from jaxsearch.hub_files import fetched
from jaxsearch.search.corpus_files import CORPUS_SUFFIXES, read_corpus_rows


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
    """Reads a corpus file: JSONL or tab-separated (TSV), gzipped or not.

    JSONL lines are `{"id", "contents"}` or `{"id", "title", "text"}`; the second
    becomes the first with `contents = '"{title}"\\n{text}'`. TSV has the columns
    `id` and `text`, of which the text is kept unchanged, or DPR's `id`, `text` and
    `title`, as `tsv_corpus.tsv_rows` describes. Blank lines are skipped. An integer id
    becomes its decimal text; a JSONL line without a usable id gets its line number, as
    in "row7".

    Args:
      path: the file, or `hf://OWNER/NAME[/FILE][@REVISION]` for one of a data set on
        the Hugging Face Hub.
      skip_bad_rows: whether to go on without rows that are malformed.
      note: receives one line for the user about rows that were changed or skipped.

    Raises:
      ValueError: if the file is missing, empty or damaged, or rows are malformed and
        not skipped; the message names the file and the lines.
    """
    path = fetched(path, CORPUS_SUFFIXES)
    bad_rows = BadRows(path)
    passages = []
    line_of_id: dict[str, int] = {}
    numbered = []
    for number, id_, contents in read_corpus_rows(path, bad_rows):
        if id_ is None:
            id_ = f"row{number}"
            numbered.append(id_)
        if id_ in line_of_id:
            bad_rows.add(
                f"{path}, line {number}: id {id_!r} was already used in line "
                f"{line_of_id[id_]}; ids must be unique"
            )
            continue
        line_of_id[id_] = number
        passages.append(Passage(id=id_, contents=contents))
    bad_rows.settle(skip=skip_bad_rows, note=note)
    if not passages:
        raise ValueError(
            f"{path}: expected at least one passage, the file has no good row"
        )
    if numbered:
        note(
            f"{path}: {len(numbered):,} of {bad_rows.num_rows:,} passages have no "
            f"usable id and got their line numbers, such as {numbered[0]!r}"
        )
    return passages


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


def corpus_fingerprint(passages: Sequence[Passage]) -> str:
    """Hash (32 hex digits) of all ids and texts, in order."""
    digest = hashlib.sha256()
    for passage in passages:
        for field in (passage.id.encode(), passage.contents.encode()):
            # The length makes ("ab", "c") differ from ("a", "bc").
            digest.update(len(field).to_bytes(8, "little"))
            digest.update(field)
    return digest.hexdigest()[:32]
