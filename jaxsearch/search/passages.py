"""Passages, and the corpus files that contain them."""

import dataclasses
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

CORPUS_SUFFIXES = (".jsonl", ".jsonl.gz", ".tsv", ".tsv.gz")


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


def read_passages(path: str | Path) -> list[Passage]:
    """Reads a corpus file: JSONL or R1-Searcher's TSV, gzipped or not.

    JSONL lines are `{"id", "contents"}` or `{"id", "title", "text"}`; the second
    becomes the first with `contents = '"{title}"\\n{text}'`. TSV lines are
    `id<TAB>text`; the text is kept unchanged, so its first line is the title. Blank
    lines are skipped.

    Raises:
      ValueError: if the file is missing, empty, damaged or malformed; the message names
        the file and the line.
    """
    path = Path(path)
    if not path.name.endswith(CORPUS_SUFFIXES):
        raise ValueError(
            f"{path}: expected a corpus named *{', *'.join(CORPUS_SUFFIXES)}, got "
            f"{path.name!r}; rename the file by its format"
        )
    is_tsv = path.name.endswith((".tsv", ".tsv.gz"))
    passages = []
    line_of_id = {}
    for number, line in _numbered_lines(path):
        where = f"{path}, line {number}"
        passage = _from_tsv(line, where) if is_tsv else _from_json(line, where)
        if passage.id in line_of_id:
            raise ValueError(
                f"{where}: id {passage.id!r} was already used in line "
                f"{line_of_id[passage.id]}; ids must be unique"
            )
        line_of_id[passage.id] = number
        passages.append(passage)
    if not passages:
        raise ValueError(f"{path}: expected at least one passage, the file has none")
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


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
        with opened as stream:
            for number, raw in enumerate(stream, start=1):
                line = raw.decode("utf-8").rstrip("\r\n")
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: expected UTF-8, got byte "
            f"0x{error.object[error.start]:02x} at column {error.start + 1}"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}, after line {number}: the gzip data is truncated or damaged "
            f"({error}); fetch the file again"
        ) from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def _from_tsv(line: str, where: str) -> Passage:
    id_, tab, text = line.partition("\t")
    if not tab or not id_.strip():
        raise ValueError(f"{where}: expected id<TAB>text, got {line[:60]!r}")
    return Passage(id=id_.strip(), contents=text)


def _from_json(line: str, where: str) -> Passage:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}: expected one JSON object, got {line[:60]!r} "
            f"({error.msg} at column {error.colno})"
        ) from error
    if not isinstance(fields, dict):
        raise ValueError(
            f"{where}: expected a JSON object, got {type(fields).__name__}"
        )
    id_ = _string(fields, "id", where)
    if not id_:
        raise ValueError(f'{where}: expected a non-empty "id"')
    if "contents" in fields:
        return Passage(id=id_, contents=_string(fields, "contents", where))
    # The first line of `contents` is the title, so a title must not have line breaks.
    title = " ".join(_string(fields, "title", where).split())
    text = _string(fields, "text", where)
    return Passage(id=id_, contents=f'"{title}"\n{text}')


def _string(fields: dict, name: str, where: str) -> str:
    if name not in fields:
        raise ValueError(
            f'{where}: field "{name}" is missing; expected "id" and "contents", or '
            f'"id", "title" and "text", got {sorted(fields)}'
        )
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(
            f'{where}: field "{name}" must be a string, got '
            f"{type(value).__name__} {value!r:.60}"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f'{where}: field "{name}" contains half of a surrogate pair at character '
            f"{error.start}, which is not valid text"
        ) from error
    return value
