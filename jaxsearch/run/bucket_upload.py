"""Writes the changes of a run's folder to a bucket.

A run may end at any moment and continues from what is on the disk: the questions that
it holds out are there before its record, rollouts and the best parameters before the
lines that tell of them, the lines of a step before its checkpoint, and the hashes of a
checkpoint are its last file. Objects are written in this order, so that a bucket, too,
always has a folder from which a run continues. Only checkpoints are ever deleted in it.
"""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from jaxsearch.run.best_checkpoint import BEST_FOLDER
from jaxsearch.run.bucket import Bucket
from jaxsearch.run.bucket_lock import LOCK
from jaxsearch.run.checkpoint import CHECKPOINT_FOLDER
from jaxsearch.run.checkpoint_hashes import HASHES
from jaxsearch.run.heldout_split import HELDOUT_FILE
from jaxsearch.run.non_finite import NON_FINITE_FOLDER

_CHECKPOINTS = (CHECKPOINT_FOLDER, BEST_FOLDER)
_RESUMED = f"{CHECKPOINT_FOLDER}/"
_THREADS = 8

Stamp = tuple[int, int]  # size and time of a file


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Listing:
    """The files of a run's folder, in the order in which they were looked at.

    Attributes:
      checkpoints: files of each complete checkpoint to resume from: folder -> name ->
        stamp.
      has_unfinished: whether a checkpoint has no hashes yet.
      lines: content and stamp of each file of lines, which end with a whole line.
      others: all other files; kept parameters only where they have their hashes.
    """

    checkpoints: dict[str, dict[str, Stamp]]
    has_unfinished: bool
    lines: dict[str, tuple[bytes, Stamp]]
    others: dict[str, dict[str, Stamp]]


class Uploads:
    """Writes the changed files of a run's folder to its bucket.

    Args:
      bucket: the bucket.
      folder: the run's folder.
      in_bucket: names of the objects in the bucket.
      complete: folders of checkpoints that are the same on both sides.
    """

    def __init__(
        self,
        bucket: Bucket,
        folder: Path,
        in_bucket: Iterable[str],
        complete: Iterable[str],
    ):
        self._bucket = bucket
        self._folder = folder
        self._in_bucket = set(in_bucket)
        self._sent: dict[str, Stamp] = {}
        self._had_gone: set[str] = set()
        listing = _listed(folder)
        for name in complete:
            for found in (listing.checkpoints, listing.others):
                self._sent |= found.get(name, {})

    def run(self) -> int:
        """Writes what has changed, then deletes checkpoints that are gone.

        Returns:
          The number of objects that were written, or deleted now or by the next call.

        Raises:
          BucketError: if the bucket fails; the next call continues.
        """
        try:
            listing = _listed(self._folder)
            first = {n: one for n, one in listing.lines.items() if n == HELDOUT_FILE}
            num = self._send_lines(first)
            num += sum(self._send_folder(*one) for one in listing.others.items())
            num += self._send_lines(listing.lines)
            num += sum(self._send_folder(*one) for one in listing.checkpoints.items())
        except FileNotFoundError:
            return 1  # deleted by the run meanwhile; the next call sees it
        return num + self._delete_gone(listing)

    def _send_lines(self, lines: dict[str, tuple[bytes, Stamp]]) -> int:
        changed = {n: one for n, one in lines.items() if self._is_new(n, one[1])}
        for name, (content, stamp) in changed.items():
            self._bucket.write(name, content)
            self._in_bucket.add(name)
            self._sent[name] = stamp
        return len(changed)

    def _send_folder(self, folder: str, files: dict[str, Stamp]) -> int:
        """Writes the files of a checkpoint, its hashes last, or files outside ("")."""
        hashes = f"{folder}/{HASHES}"
        changed = {name for name, stamp in files.items() if self._is_new(name, stamp)}
        if changed and hashes in self._in_bucket:
            # An earlier checkpoint of the same step is there; it is no longer whole.
            self._bucket.delete([hashes])
            self._in_bucket.discard(hashes)
            self._sent.pop(hashes, None)
        first = {name: stamp for name, stamp in files.items() if name != hashes}
        last = {name: stamp for name, stamp in files.items() if name == hashes}
        return self._send(first) + self._send(last)

    def _is_new(self, name: str, stamp: Stamp) -> bool:
        return self._sent.get(name) != stamp

    def _send(self, files: dict[str, Stamp]) -> int:
        """Writes those that have changed, several at a time."""
        changed = {n: stamp for n, stamp in files.items() if self._is_new(n, stamp)}
        in_threads(lambda n: self._bucket.upload(self._folder / n, n), changed)
        self._sent |= changed
        self._in_bucket |= changed.keys()
        return len(changed)

    def _delete_gone(self, listing: _Listing) -> int:
        """Deletes checkpoints in the bucket that the run has deleted or renamed."""
        # While a checkpoint gets its hashes, one before it may be gone already.
        if listing.has_unfinished or not listing.checkpoints:
            return 0
        here = set().union(*listing.checkpoints.values(), *listing.others.values())
        kinds = tuple(f"{kind}/" for kind in (*_CHECKPOINTS, NON_FINITE_FOLDER))
        gone = [n for n in self._in_bucket - here if n.startswith(kinds)]
        # Without hashes a checkpoint is no longer used.
        gone.sort(key=lambda name: (not name.endswith(f"/{HASHES}"), name))
        # What replaces them existed before they went, so it is in this listing if they
        # had gone at the one before it.
        deleted = [name for name in gone if name in self._had_gone]
        self._had_gone = set(gone)
        self._bucket.delete(deleted)
        self._in_bucket -= set(deleted)
        for name in deleted:
            self._sent.pop(name, None)
        return len(gone)


def _listed(folder: Path) -> _Listing:
    """Looks first at what is written last, so that all before it is found too."""
    found = _stamps(folder, CHECKPOINT_FOLDER)
    lines = {}
    for path in folder.glob("*.jsonl"):
        stamp = _stamp(path)
        # A line may be being appended.
        content, newline, _ = path.read_bytes().rpartition(b"\n")
        lines[path.name] = content + newline, stamp
    rest = _stamps(folder, "")
    inside = {
        name: files for name, files in rest.items() if not name.startswith(_RESUMED)
    }
    others = {n: stamp for n, stamp in rest.get("", {}).items() if n not in lines}
    complete = {n: f for n, f in inside.items() if f"{n}/{HASHES}" in f}
    unfinished = [n for n, f in (found | inside).items() if f"{n}/{HASHES}" not in f]
    return _Listing(
        checkpoints={n: f for n, f in found.items() if f"{n}/{HASHES}" in f},
        has_unfinished=any(PurePosixPath(n).name.isdecimal() for n in unfinished),
        lines=lines,
        others={"": others, **complete},
    )


def _stamps(folder: Path, inside: str) -> dict[str, dict[str, Stamp]]:
    """Stamps of the files by name, by the checkpoint that they belong to."""
    found: dict[str, dict[str, Stamp]] = {}
    for path in sorted((folder / inside).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")) or name == LOCK:
            continue  # temporary
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            if path.is_file():
                found.setdefault(checkpoint_of(name), {})[name] = _stamp(path)
    return found


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def checkpoint_of(name: str) -> str:
    """The checkpoint that a file belongs to; "" for none."""
    parts = name.split("/")
    if parts[0] in _CHECKPOINTS and len(parts) > 2:
        return "/".join(parts[:2])
    if parts[0] == NON_FINITE_FOLDER and len(parts) > 3:
        return "/".join(parts[:3])
    return ""


def in_threads(call: Callable[[str], None], names: Iterable[str]) -> None:
    """Calls it for each name, several at a time; raises the first error."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(call, list(names)):
            pass
