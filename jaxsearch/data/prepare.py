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
from jaxsearch.data.known_sets import known_set
from jaxsearch.data.prepared_set import (
    PreparedSet,
    SetRecord,
    open_split,
    parse_name,
    split_folder,
)
from jaxsearch.data.set_checksums import CHECKSUMS, checksums
from jaxsearch.data.set_origin import hub_addresses, origin_of, split_in


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
    """Prepares a set, unless it is already prepared from the same file.

    Args:
      name: name of a known set, or a new name.
      file: the file to read, local or on the Hub; "" for FlashRAG's file of a known
        set.
      split: the split. "" for all splits of the set or, with `file`, the split in its
        name, otherwise train.
      revision: commit, branch or tag of FlashRAG's repository; "" for the one that the
        split was prepared from, otherwise the newest.
      replace: whether to replace a split that was prepared from another file.
      skip_bad_rows: whether to continue without malformed rows.
      note: receives lines for the user.

    Raises:
      ValueError: for an unknown name or split, a file that cannot be read, or, without
        `replace`, a split that was prepared from another file.
    """
    name = _checked_name(name)
    # `all` has a special meaning in TFDS.
    if split and (split == "all" or not re.fullmatch(r"\w+", split, re.ASCII)):
        raise ValueError(f"a split has a name such as dev, got {split!r}")
    if file and revision:
        raise ValueError(
            "--revision is for FlashRAG's repository: omit --from, or write "
            "the file as hf://OWNER/NAME/FILE@REVISION"
        )
    if file:
        files = {split or split_in(file): file}
    else:
        files = hub_addresses(name, split, revision, replace)
    return [
        _prepare(
            name, one, address, replace=replace, skip_bad_rows=skip_bad_rows, note=note
        )
        for one, address in files.items()
    ]


def _checked_name(name: str) -> str:
    """The name of a set, without a split.

    Raises:
      ValueError: if it is not a valid name.
    """
    found = parse_name(name)
    if found is None or found[1]:
        raise ValueError(
            f"expected the name of a set (letters, digits, - and _), got {name!r}; "
            "give a split with --split, a file with --from"
        )
    return found[0]


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
    origin, path = origin_of(file)
    folder = split_folder(name, split)
    if folder.exists() and not replace:
        found = open_split(name, split)
        before = found.record.origin
        if before.sha256 == origin.sha256:
            note(f"{found} is already prepared from the same content")
            return found
        raise ValueError(
            f"{found} was prepared from {before.address} (SHA-256 "
            f"{before.sha256[:12]}...), but {origin.address} is another file "
            f"({origin.sha256[:12]}...); give --replace to replace it, or another name"
        )
    # Read before deleting anything, because the file may be malformed.
    questions = read_questions(path, skip_bad_rows=skip_bad_rows, note=note)
    from jaxsearch.data.question_builder import SetInfo, store_questions
    from jaxsearch.data.question_store import fingerprint

    known = known_set(name)
    record = SetRecord(
        origin=origin,
        fingerprint=fingerprint(questions),
        num_questions=len(questions),
    )
    about = SetInfo(
        name=name,
        split=split,
        description=f"{known.title if known else name}, questions of {split}",
        citation=known.citation if known else "",
        homepage=known.homepage if known else "",
        licence=known.licence if known else "",
        metadata=dataclasses.asdict(record),
    )
    with _set_aside(folder):
        store_questions(questions, folder, about, _write_checksums)
    return open_split(name, split)


@contextlib.contextmanager
def _set_aside(folder: Path) -> Iterator[None]:
    """Moves an old folder away; restores it if no new one is made."""
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


def _write_checksums(folder: Path) -> None:
    text = json.dumps(checksums(folder), indent=1)
    (folder / CHECKSUMS).write_text(text + "\n")
