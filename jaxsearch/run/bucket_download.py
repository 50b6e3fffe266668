"""Copies a run from a bucket to a folder of this machine."""

import shutil
from pathlib import Path, PurePosixPath

from jaxsearch.json_files import read_json_object
from jaxsearch.run.bucket import Bucket, BucketError
from jaxsearch.run.bucket_lock import LOCK
from jaxsearch.run.bucket_upload import checkpoint_of, in_threads
from jaxsearch.run.checkpoint_hashes import HASHES


def download(bucket: Bucket, folder: Path, sizes: dict[str, int]) -> list[str]:
    """Makes a folder equal to a run in a bucket, without incomplete checkpoints.

    Checkpoints that the folder already has are kept.

    Args:
      bucket: the bucket.
      folder: the folder; replaced.
      sizes: sizes of the objects, by their names.

    Returns:
      The folders of the complete checkpoints.

    Raises:
      ValueError: if an object's name leads out of the folder.
      BucketError: if the bucket fails, or an object has another size.
    """
    for name in sizes:
        if not _is_inside(name):
            raise ValueError(
                f"{bucket.address} has an object {name!r:.100}, which is no file of a "
                "run; choose another address"
            )
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    hashes = [name for name in sizes if name.endswith(f"/{HASHES}")]
    in_threads(lambda name: bucket.download(name, new / name), hashes)
    complete = {name.removesuffix(f"/{HASHES}"): name for name in hashes}
    wanted = []
    for name in sizes:
        holder = checkpoint_of(name)
        if not holder and name != LOCK:
            wanted.append(name)
        elif holder in complete and name != complete[holder]:
            listed = _names_in(new / complete[holder])
            if name.removeprefix(f"{holder}/") in listed:
                wanted.append(name)

    def fetch(name: str) -> None:
        holder, old = checkpoint_of(name), folder / name
        if holder and _are_equal(folder, new, complete[holder], old, sizes[name]):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            old.rename(new / name)
            return
        bucket.download(name, new / name)
        if (found := (new / name).stat().st_size) != sizes[name]:
            raise BucketError(
                f"{bucket.address}: {name} has {found} of {sizes[name]} bytes"
            )

    in_threads(fetch, wanted)
    new.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    return list(complete)


def equal_checkpoints(bucket: Bucket, folder: Path, sizes: dict[str, int]) -> list[str]:
    """The folders of complete checkpoints that are the same here and in a bucket."""
    found = []
    for name in sizes:
        if name.endswith(f"/{HASHES}") and _is_inside(name):
            here = folder / name
            if here.is_file() and here.read_bytes() == bucket.read(name):
                found.append(name.removesuffix(f"/{HASHES}"))
    return found


def _are_equal(folder: Path, new: Path, hashes: str, file: Path, size: int) -> bool:
    """Whether a file is of the same checkpoint as in the bucket, by its hashes."""
    if not (file.is_file() and (folder / hashes).is_file()):
        return False
    return (
        file.stat().st_size == size
        and (folder / hashes).read_bytes() == (new / hashes).read_bytes()
    )


def _names_in(hashes: Path) -> set[str]:
    """The files that a checkpoint's hashes are of; none if these are damaged."""
    try:
        return set(read_json_object(hashes))
    except ValueError:
        return set()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts
