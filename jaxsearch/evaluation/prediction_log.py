"""The file of predictions during an evaluation, and its recovery after a stop.

Process 0 appends to `predictions.jsonl`, process k to `predictions.k.jsonl`. At the end
the first process joins them in the order of the questions.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax

from jaxsearch import json_lines, processes
from jaxsearch.bounded_files import read_lines

FILE_NAME = "predictions.jsonl"
# Lines are passed to the operating system at once, and synced to disk after this time.
_SYNC_S = 5.0


class Key(NamedTuple):
    """The identity of one rollout in an evaluation."""

    set_name: str
    question_id: str
    sample: int


class _Place(NamedTuple):
    path: Path
    offset: int
    length: int


def key_of(line: Mapping[str, Any]) -> Key:
    """The key of a line; lines of earlier versions lack the set and the sample."""
    return Key(str(line.get("set", "")), str(line["id"]), line.get("sample", 0))


class PredictionLog:
    """Predictions of an evaluation, in files that are appended to and finally joined.

    All processes must call `read` and `join` together.

    Args:
      folder: the folder of the evaluation.
    """

    def __init__(self, folder: Path):
        number = jax.process_index()
        self._folder = folder
        self._path = folder / (f"predictions.{number}.jsonl" if number else FILE_NAME)
        self._places: dict[Key, _Place] = {}
        self._synced_at = time.monotonic()

    def read(self, keys: Iterable[Key]) -> set[Key]:
        """Reads the lines of an earlier command; returns the keys that are done.

        An incomplete last line is removed from the file of this process.

        Args:
          keys: all keys of the evaluation.

        Raises:
          ValueError: for a malformed line, or one of another evaluation.
        """
        _cut_incomplete_line(self._path)
        self._find(set(keys))
        found = processes.all_gather_objects(set(self._places))
        return set().union(*found)

    def _find(self, known: Set[Key]) -> None:
        """Finds the lines in all files that this process can see."""
        for path in _files(self._folder):
            for number, (place, text) in enumerate(_lines(path), start=1):
                key = _checked_key(text, path, number, known)
                self._places.setdefault(key, place)

    def append(self, lines: Sequence[tuple[Key, Mapping[str, Any]]]) -> None:
        """Appends lines; they survive if the process is killed."""
        with self._path.open("ab") as file:
            for key, line in lines:
                data = (json_lines.encode(dict(line)) + "\n").encode()
                self._places[key] = _Place(self._path, file.tell(), len(data))
                file.write(data)
            file.flush()
            if time.monotonic() - self._synced_at > _SYNC_S:
                os.fsync(file.fileno())
                self._synced_at = time.monotonic()

    def join(self, keys: Sequence[Key]) -> Path:
        """Writes all lines to `predictions.jsonl`, in the order of the keys.

        Returns:
          The path of the file; only the first process writes it.
        """
        processes.wait_for_all("predictions written")
        sent = self._received(keys)
        whole = self._folder / FILE_NAME
        if processes.is_primary():
            replacing = json_lines.replacing(whole)
            with replacing as file, contextlib.ExitStack() as stack:
                read = _reader(stack)
                for key in keys:
                    file.write(sent[key] if key in sent else read(self._places[key]))
        processes.wait_for_all("predictions joined")
        if not processes.is_primary():
            self._path.unlink(missing_ok=True)
            return whole
        for path in _files(self._folder):
            if path != whole:
                path.unlink(missing_ok=True)
        return whole

    def _received(self, keys: Sequence[Key]) -> dict[Key, bytes]:
        """Lines that the first process cannot read, because storage is not shared."""
        if jax.process_count() == 1:
            return {}
        lacking: set[Key] = set()
        if processes.is_primary():
            self._find(set(keys))
            lacking = set(keys) - self._places.keys()
        lacking = processes.broadcast_from_primary(lacking)
        sent: dict[Key, bytes] = {}
        if lacking:
            with contextlib.ExitStack() as stack:
                read = _reader(stack)
                own = {k: read(p) for k, p in self._places.items() if k in lacking}
            for part in processes.all_gather_objects(own):
                sent |= part
        return sent


def _files(folder: Path) -> list[Path]:
    """The files of predictions in a folder; the first process's comes first."""
    others = folder.glob("predictions.*.jsonl")
    found = [path for path in others if path.name.split(".")[1].isdigit()]
    return [folder / FILE_NAME, *sorted(found)]


def _lines(path: Path) -> Iterator[tuple[_Place, bytes]]:
    """The complete lines of a file; empty if there is no file."""
    if not path.exists():
        return
    offset = 0
    for _, line in read_lines(path):
        if line.endswith(b"\n"):
            yield _Place(path, offset, len(line)), line
        offset += len(line)


def _cut_incomplete_line(path: Path) -> None:
    """Removes an incomplete last line, if the file exists."""
    whole = 0
    for place, _ in _lines(path):
        whole = place.offset + place.length
    if path.exists() and path.stat().st_size > whole:
        os.truncate(path, whole)


def _checked_key(text: bytes, path: Path, number: int, known: Set[Key]) -> Key:
    """The key of a line.

    Raises:
      ValueError: if the line is malformed or of another evaluation.
    """
    line = json_lines.parse_line(text, path, number)
    if not isinstance(line.get("id"), str) or type(line.get("sample", 0)) is not int:
        raise ValueError(
            f"{path}, line {number}: 'id' must be a string and 'sample' an integer, so "
            "the file was changed; choose another folder with --out"
        )
    key = key_of(line)
    if key not in known:
        raise ValueError(
            f"{path}, line {number}: question {key.question_id!r:.80} of set "
            f"{key.set_name!r:.80}, sample {key.sample}, is not of this evaluation, so "
            "the file was changed; choose another folder with --out"
        )
    return key


def _reader(stack: contextlib.ExitStack) -> Callable[[_Place], bytes]:
    """Reads lines from files that stay open until the stack is closed."""
    files: dict[Path, BinaryIO] = {}

    def read(place: _Place) -> bytes:
        if place.path not in files:
            files[place.path] = stack.enter_context(place.path.open("rb"))
        files[place.path].seek(place.offset)
        return files[place.path].read(place.length)

    return read
