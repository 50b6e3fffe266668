"""Prepared sets of questions: folders that `jaxsearch data prepare` makes.

A set is found by its name from any working folder: `hotpotqa`, or `hotpotqa/dev` for
one of its splits. Its folder is DATA/NAME/SPLIT/VERSION, the layout of TensorFlow
Datasets, and its `checksums.json` has the SHA-256 of every file. DATA is JAXSEARCH_DATA
or, if that is not set, ~/.cache/jaxsearch/data.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsearch.bad_rows import Note, print_note
from jaxsearch.data.known_sets import KNOWN_SETS, known_set, near_names
from jaxsearch.data.question import Question
from jaxsearch.data.records import SUFFIXES
from jaxsearch.data.set_checksums import check_files
from jaxsearch.hub_files import is_hub_file
from jaxsearch.json_files import read_json_object
from jaxsearch.json_types import typed
from jaxsearch.local_paths import cache_folder

if TYPE_CHECKING:
    from jaxsearch.data.question_store import QuestionSource

VERSION = "1.0.0"
TRAINING_SPLITS = ("train",)
# With this order, every known set is evaluated on the split of the papers' tables.
EVALUATION_SPLITS = ("test", "dev")

# Folders have these names, of which file systems allow 255 bytes.
_NAME = re.compile(r"(?P<name>\w[\w-]{0,199})(?:/(?P<split>\w{1,200}))?", re.ASCII)


def data_folder() -> Path:
    """The folder of all prepared sets."""
    if folder := os.environ.get("JAXSEARCH_DATA"):
        return Path(folder)
    return cache_folder() / "data"


def split_folder(name: str, split: str) -> Path:
    """The folder of a split, prepared or not."""
    return data_folder() / name / split / VERSION


def parse_name(text: str) -> tuple[str, str] | None:
    """The set and the split ("" if there is none) that a text names.

    None for a path: an existing file, a text with the suffix of a question file, or one
    with characters that are not allowed in names.
    """
    found = _NAME.fullmatch(text)
    if found is None or is_hub_file(text) or text.endswith(SUFFIXES):
        return None
    if os.path.isfile(text):  # Path.is_file raises for a text too long for a name
        return None
    known = known_set(found["name"])
    return known.name if known else found["name"], found["split"] or ""


def prepared_splits(name: str) -> list[str]:
    """The splits of a set that are prepared."""
    return sorted(
        folder.parent.name for folder in (data_folder() / name).glob(f"*/{VERSION}")
    )


def prepared_names() -> list[str]:
    """The names of the sets that have a prepared split."""
    return sorted({path.parts[-3] for path in data_folder().glob(f"*/*/{VERSION}")})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """The file that a split was made from.

    Attributes:
      address: its absolute path, or its address on the Hub with the commit.
      sha256: SHA-256 of its bytes, in hexadecimal.
      num_bytes: its size.
    """

    address: str
    sha256: str
    num_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetRecord:
    """The record of a split.

    Attributes:
      origin: the file that it was made from.
      fingerprint: hash of the questions and their order.
      num_questions: number of questions.
    """

    origin: Origin
    fingerprint: str
    num_questions: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedSet:
    """One split of a prepared set, with verified files.

    Attributes:
      name: name of the set.
      split: name of the split.
      version: version of its layout.
      record: contents of `metadata.json`.
    """

    name: str
    split: str
    version: str
    record: SetRecord

    def __str__(self) -> str:
        return f"{self.name}/{self.split}"

    @property
    def folder(self) -> Path:
        return split_folder(self.name, self.split)

    def source(self) -> "QuestionSource":
        """Random access to the questions."""
        # Importing TFDS takes a second, and it is not installed everywhere.
        from jaxsearch.data.question_store import QuestionSource

        return QuestionSource(self.folder, self.record.fingerprint, self.split)

    def questions(self) -> list[Question]:
        """All questions, in the order of their file."""
        source = self.source()
        return source.rows(range(len(source)))


def find_set(
    name: str,
    split: str = "",
    *,
    splits: Sequence[str] = (),
    note: Note = print_note,
) -> PreparedSet:
    """Opens a prepared set and checks its files.

    Args:
      name: name of the set.
      split: name of the split; "" to take one of `splits`.
      splits: the first prepared one of these is opened. If there is none, the only
        prepared split is opened, with a note.
      note: receives the note.

    Raises:
      ValueError: if it is not prepared, is damaged, or has several splits and none of
        `splits`.
    """
    there = prepared_splits(name)
    if not there:
        raise ValueError(_unknown(name))
    if split and split not in there:
        raise ValueError(
            f"{name} has no prepared split {split!r}, but {_listed(there)}; prepare it "
            f"with `jaxsearch data prepare {name} --split {split}`"
        )
    if not split:
        split = next((one for one in splits if one in there), "")
    if not split:
        if len(there) > 1:
            raise ValueError(
                f"{name} has the prepared splits {_listed(there)}; give one, as in "
                f"{name}/{there[0]}"
            )
        [split] = there
        if splits:
            note(f"{name}: its split {split} is read, the only one that is prepared")
    return open_split(name, split)


def open_split(name: str, split: str) -> PreparedSet:
    """Opens a split that is prepared, and checks its files.

    Raises:
      ValueError: if a file is missing or differs from what was written.
    """
    folder = split_folder(name, split)
    try:
        check_files(folder)
        info = read_json_object(folder / "dataset_info.json")
        metadata = read_json_object(folder / "metadata.json")
        version = typed(info.get("version"), str, "dataset_info.json: version")
        record = typed(metadata, SetRecord, "metadata.json: the record")
    except (ValueError, OSError) as error:
        raise ValueError(
            f"the prepared set {name}/{split} in {folder} is damaged: {error}; prepare "
            f"it again with `jaxsearch data prepare {name} --split {split} --replace`"
        ) from None
    return PreparedSet(name=name, split=split, version=version, record=record)


def _unknown(name: str) -> str:
    """Why a set that is not prepared cannot be read, and what to do."""
    if known_set(name):
        return (
            f"the set {name} is not prepared in {data_folder()}; run `jaxsearch data "
            f"prepare {name}`, or with `--from FILE` if you have it"
        )
    ready = prepared_names()
    known = [one.name for one in KNOWN_SETS]
    near = near_names(name, [*known, *ready])
    prepared = f"; prepared: {', '.join(ready)}" if ready else ""
    return (
        f"there is no set {name!r}, and no such file{near}; known: {', '.join(known)}"
        f"{prepared}; a file of questions ends in {', '.join(SUFFIXES)}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
