"""Prepares sets of questions: reads a file once, and stores it with its origin."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxsearch.bad_rows import Note, print_note
from jaxsearch.data.formats import read_questions
from jaxsearch.data.known_sets import FLASHRAG, KNOWN_SETS, known_set, near_names
from jaxsearch.data.prepared_set import (
    CHECKSUMS,
    PreparedSet,
    checksums,
    file_sha256,
    open_split,
    parse_name,
    prepared_splits,
    split_folder,
)
from jaxsearch.data.records import SUFFIXES
from jaxsearch.hub_files import fetched, hub_file, is_hub_file, pinned

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
    "test": "test",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """The file that a split was made of.

    Attributes:
      address: its absolute path, or its address on the Hub with the commit.
      sha256: SHA-256 of its bytes, in hexadecimal.
      num_bytes: its size.
    """

    address: str
    sha256: str
    num_bytes: int


def prepare_set(
    name: str,
    file: str = "",
    *,
    split: str = "",
    revision: str = "",
    replace: bool = False,
    skip_bad_rows: bool = False,
    note: Note = print_note,
) -> list[PreparedSet]:
    """Prepares a set, or leaves it as it is if it is prepared from the same file.

    Args:
      name: name of a known set, or of your own.
      file: the file to read, local or on the Hub; "" for FlashRAG's file of a known
        set.
      split: the split; "" for the one that the name of `file` has, else train, or
        without `file` for all splits of the set.
      revision: commit, branch or tag of FlashRAG's repository; "" for the one that the
        split was prepared from, else the newest.
      replace: whether a split that was prepared from another file is replaced.
      skip_bad_rows: whether to go on without malformed rows.
      note: receives lines for the user.

    Raises:
      ValueError: for an unknown name or split, a file that cannot be read, or a split
        that was prepared from another file and is not to be replaced.
    """
    name = _checked_name(name)
    # TFDS gives `all` a meaning of its own.
    if split and (split == "all" or not re.fullmatch(r"\w+", split, re.ASCII)):
        raise ValueError(f"a split has a name such as dev, got {split!r}")
    if file and revision:
        raise ValueError(
            "--revision is of FlashRAG's repository: give it without --from, or write "
            "the file as hf://OWNER/NAME/FILE@REVISION"
        )
    if file:
        files = {split or _split_in(file): file}
    else:
        files = _hub_files(name, split, revision, replace)
    return [
        _prepare(
            name, one, address, replace=replace, skip_bad_rows=skip_bad_rows, note=note
        )
        for one, address in files.items()
    ]


def _checked_name(name: str) -> str:
    """The name of a set, without a split.

    Raises:
      ValueError: if it cannot be one.
    """
    found = parse_name(name)
    if found is None or found[1]:
        raise ValueError(
            f"expected the name of a set (letters, digits, - and _), got {name!r}; a "
            "split is given with --split, a file with --from"
        )
    return found[0]


def _split_in(file: str) -> str:
    """The split that the name of a file has; train if it has none."""
    words = re.split(r"[^a-z]+", Path(file).name.lower())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), "train")


def _hub_files(name: str, split: str, revision: str, replace: bool) -> dict[str, str]:
    """The addresses of FlashRAG's files of a set, by split.

    Raises:
      ValueError: if the set or the split is not there.
    """
    known = known_set(name)
    if known is None:
        names = [one.name for one in KNOWN_SETS]
        raise ValueError(
            f"unknown set {name!r}{near_names(name, names)}; known: "
            f"{', '.join(names)}; prepare a set of your own with --from FILE"
        )
    if split and split not in known.splits:
        raise ValueError(
            f"{known.title} has no split {split!r} in {FLASHRAG}; it has "
            f"{', '.join(known.splits)}"
        )
    splits = [split] if split else known.splits
    there = prepared_splits(known.name)
    addresses = {}
    for one in splits:
        address = known.address(one)
        if revision:
            address = f"{address}@{revision}"
        elif one in there and not replace:
            before = open_split(known.name, one).metadata["origin"]["address"]
            is_same = is_hub_file(before) and hub_file(address).may_be(hub_file(before))
            address = before if is_same else address
        addresses[one] = address
    return addresses


def _prepare(
    name: str,
    split: str,
    file: str,
    *,
    replace: bool,
    skip_bad_rows: bool,
    note: Note,
) -> PreparedSet:
    """Prepares one split from one file."""
    origin, path = _origin(file)
    folder = split_folder(name, split)
    if folder.exists() and not replace:
        found = open_split(name, split)
        before = found.metadata["origin"]
        if before["sha256"] == origin.sha256:
            note(f"{found} is prepared already, from the same content")
            return found
        raise ValueError(
            f"{found} was prepared from {before['address']} (SHA-256 "
            f"{before['sha256'][:12]}...), but {origin.address} is another file "
            f"({origin.sha256[:12]}...); give --replace to replace it, or another name"
        )
    # Read before anything is deleted, because the file may be bad.
    questions = read_questions(path, skip_bad_rows=skip_bad_rows, note=note)
    from jaxsearch.data.question_builder import SetInfo, store_questions
    from jaxsearch.data.question_store import fingerprint

    known = known_set(name)
    about = SetInfo(
        name=name,
        split=split,
        description=f"{known.title if known else name}, questions of {split}",
        citation=known.citation if known else "",
        homepage=known.homepage if known else "",
        licence=known.licence if known else "",
        metadata={
            "origin": dataclasses.asdict(origin),
            "fingerprint": fingerprint(questions),
            "num_questions": len(questions),
        },
    )
    with _set_aside(folder):
        store_questions(questions, folder, about, _write_checksums)
    return open_split(name, split)


@contextlib.contextmanager
def _set_aside(folder: Path) -> Iterator[None]:
    """Makes room for a new folder; the old one comes back if none is made."""
    old = folder.with_name(f".replaced-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    try:
        yield
    finally:
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        elif old.exists():
            old.rename(folder)


def _origin(file: str) -> tuple[Origin, Path]:
    """The origin that a file is recorded as, and its local copy.

    Raises:
      ValueError: if it is missing or cannot be fetched.
    """
    address = pinned(file, SUFFIXES)
    path = fetched(address, SUFFIXES)
    if not path.is_file():
        raise ValueError(f"{file}: no such file; check the path")
    if not is_hub_file(address):
        address = str(path.absolute())
    origin = Origin(
        address=address, sha256=file_sha256(path), num_bytes=path.stat().st_size
    )
    return origin, path


def _write_checksums(folder: Path) -> None:
    text = json.dumps(checksums(folder), indent=1)
    (folder / CHECKSUMS).write_text(text + "\n")
