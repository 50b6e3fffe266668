"""The manifest of an index folder: what is in it, and every file with size and hash."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_origin

import jaxsearch
from jaxsearch.folder_files import check_links, file_inside
from jaxsearch.json_files import read_json
from jaxsearch.json_lines import replace_file
from jaxsearch.local_paths import check_local

FORMAT_VERSION = 2
MANIFEST = "index.json"
BUILDING = ".building.json"  # there instead of the manifest until a build is complete
REBUILD = (
    "rebuild with `jaxsearch index build --corpus FILE --encoder NAME_OR_DIR --out DIR`"
)
# Fields that format 1 did not have, with what they were.
_FIELDS_SINCE_2: Mapping[str, Any] = {"corpora": [], "reason": "", "vectors": []}
_HASH_CHUNK = 2**22


class Corpus(NamedTuple):
    """One of the corpora of an index; their passages follow one another."""

    name: str
    num_passages: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `index.json`.

    Attributes:
      kind: "exact", "scann" or another of `indexes.OPENERS`.
      dims: width of the vectors; 0 without any.
      corpora: names and sizes of the corpora, in the order of their passages.
      scorer: settings of the kind.
      reason: why the index is of this kind.
      vectors: files of the vectors, in the order of their rows.
      files: size in bytes and SHA-256 of each file, by its path in the folder; format 1
        had no hashes.
    """

    format_version: int
    kind: str
    num_passages: int
    dims: int
    corpus_fingerprint: str
    corpora: list[Corpus]
    encoder_name: str
    encoder_fingerprint: str
    scorer: dict[str, Any]
    reason: str
    vectors: list[str]
    jaxsearch_version: str
    files: dict[str, "FileRecord"]

    @classmethod
    def read(cls, folder: Path, *, verify: bool = False) -> "Manifest":
        """Reads `index.json` and checks it, and the name and size of every file.

        Files that the manifest does not list are refused, because libraries read what
        they find in a folder, such as a pickle. Hidden files beside `index.json` are
        not.

        Args:
          folder: the index.
          verify: whether to check the hash of every file too.

        Raises:
          ValueError: if the folder is no index, is damaged or has another format; or
            a file is outside of the folder, or not listed.
        """
        check_local(folder, "an index")
        path = folder / MANIFEST
        if not path.is_file():
            if (folder / BUILDING).is_file():
                raise ValueError(
                    f"{folder} is an index whose build was stopped; the command that "
                    "began it continues with it"
                )
            raise ValueError(f"{folder} is no index: {path} is missing; {REBUILD}")
        check_links(folder, [path])
        try:
            fields = read_json(path)
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); {REBUILD}") from error
        manifest = _parsed(fields, path)
        for name in manifest.files:
            file_inside(folder, name, str(path))
        _check_unlisted(folder, manifest.files.keys())
        for name, record in manifest.files.items():
            record.check(folder, name)
        if verify:
            manifest.check_hashes(folder)
        return manifest

    def check_hashes(self, folder: Path, within: str = "") -> None:
        """Reads every file and compares its hash.

        Args:
          folder: the index.
          within: folder of the index whose files are read; "" for all files.

        Raises:
          ValueError: naming the first file that was changed; or if the folder is of
            format 1, which has no hashes.
        """
        for name, record in self.files.items():
            if not name.startswith(within):
                continue
            if not record.sha256:
                raise ValueError(
                    f"index {folder} was built by an earlier version, which wrote no "
                    f"hashes to verify; {REBUILD}"
                )
            found = file_record(folder / name)
            if found != record:
                raise ValueError(
                    f"index {folder}: {name} was changed: expected SHA-256 "
                    f"{record.sha256}, found {found.sha256}; get the index again"
                )

    def write(self, folder: Path) -> None:
        """Writes `index.json`, which makes the folder an index."""
        fields = dataclasses.asdict(self)
        fields["corpora"] = [corpus._asdict() for corpus in self.corpora]
        fields["files"] = {name: one._asdict() for name, one in self.files.items()}
        content = json.dumps(fields, indent=2, ensure_ascii=False)
        replace_file(folder / MANIFEST, (content + "\n").encode())


class FileRecord(NamedTuple):
    """Size and hash of a file of an index."""

    bytes: int
    sha256: str

    def check(self, folder: Path, name: str) -> None:
        """Raises ValueError if the file is missing or has another size."""
        path = folder / name
        if not path.is_file():
            raise ValueError(f"index {folder}: {name} is missing; {REBUILD}")
        if (found := path.stat().st_size) != self.bytes:
            raise ValueError(
                f"index {folder}: expected {name} to have {self.bytes} bytes, found "
                f"{found}; {REBUILD}"
            )


def new_manifest(folder: Path, known: Mapping[str, FileRecord], **fields: Any) -> None:
    """Writes the manifest of everything in a folder.

    Args:
      folder: the index, complete but for its manifest.
      known: files whose hashes were computed when they were written.
      **fields: the other fields of `Manifest`, but for format and version.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith("."):
            files[name] = known.get(name) or file_record(path)
    Manifest(
        format_version=FORMAT_VERSION,
        jaxsearch_version=jaxsearch.__version__,
        files=files,
        **fields,
    ).write(folder)


def file_record(path: Path) -> FileRecord:
    """Size and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return FileRecord(size, digest.hexdigest())


def _parsed(fields: Any, path: Path) -> Manifest:
    """The manifest with these fields.

    Raises:
      ValueError: if a field is missing, unknown or of another type.
    """
    expected = {field.name: field.type for field in dataclasses.fields(Manifest)}
    is_format_1 = isinstance(fields, dict) and fields.get("format_version") == 1
    if is_format_1:
        fields = {**_FIELDS_SINCE_2, **fields}
    if not isinstance(fields, dict) or fields.keys() != expected.keys():
        found = sorted(fields) if isinstance(fields, dict) else fields
        raise ValueError(
            f"{path}: expected the fields {sorted(expected)}, found {found!r:.400}; "
            f"{REBUILD}"
        )
    for name, kind in expected.items():
        kind = get_origin(kind) or kind
        if type(fields[name]) is not kind:
            raise ValueError(
                f"{path}: {name} must be of type {kind.__name__}, found "
                f"{fields[name]!r:.60}; {REBUILD}"
            )
    if not is_format_1 and fields["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path}: expected format {FORMAT_VERSION}, found "
            f"{fields['format_version']}; {REBUILD}"
        )
    files = {
        name: _file_record(name, {"bytes": value, "sha256": ""}, path)
        if is_format_1
        else _file_record(name, value, path)
        for name, value in fields["files"].items()
    }
    corpora = [_corpus(value, path) for value in fields["corpora"]]
    total = sum(corpus.num_passages for corpus in corpora)
    if corpora and total != fields["num_passages"]:
        raise ValueError(
            f"{path}: expected {fields['num_passages']} passages in its corpora, found "
            f"{total}; {REBUILD}"
        )
    for name in fields["vectors"]:
        if not isinstance(name, str) or name not in files:
            raise ValueError(
                f"{path}: the vectors {name!r:.60} are not one of its files; {REBUILD}"
            )
    return Manifest(**fields | {"files": files, "corpora": corpora})


def _file_record(name: str, value: Any, path: Path) -> FileRecord:
    return FileRecord(
        **_typed(value, {"bytes": int, "sha256": str}, f"{path}: file {name!r:.60}")
    )


def _corpus(value: Any, path: Path) -> Corpus:
    return Corpus(
        **_typed(value, {"name": str, "num_passages": int}, f"{path}: a corpus")
    )


def _typed(value: Any, expected: Mapping[str, type], where: str) -> dict[str, Any]:
    """The fields of an object with these fields and no others.

    Raises:
      ValueError: if it has others, or a value of another type.
    """
    is_object = isinstance(value, dict) and value.keys() == expected.keys()
    if not is_object or any(type(value[name]) is not expected[name] for name in value):
        names = ", ".join(
            f"{name} ({kind.__name__})" for name, kind in expected.items()
        )
        raise ValueError(f"{where} must have {names}, found {value!r:.60}; {REBUILD}")
    return value


def _check_unlisted(folder: Path, listed: Collection[str]) -> None:
    """Raises ValueError if the folder has a file or a link that is not listed."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_known = name in listed or name == MANIFEST or name.startswith(".")
        is_plain_folder = path.is_dir() and not path.is_symlink()
        if not (is_known or is_plain_folder):
            raise ValueError(
                f"index {folder}: {name} is not listed in index.json, so it was not "
                "written with the index; nothing was opened; remove it, or get the "
                "index from whoever built it"
            )
