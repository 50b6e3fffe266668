"""Files of a folder that may come from elsewhere: names in it lead nowhere else."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

# Of file systems.
_MAX_NAME_BYTES = 256
_MAX_PATH_LEN = 1000


def file_inside(folder: Path, name: Any, source: str) -> Path:
    """The file of a folder with this name, which lies in the folder.

    Nothing is opened.

    Args:
      folder: the folder.
      name: relative path, as a file of the folder gives it.
      source: what gives the name, for the error.

    Raises:
      ValueError: for anything but a string, an absolute path, a path with "..", or a
        link to elsewhere.
    """
    is_relative = isinstance(name, str) and not PurePosixPath(name).is_absolute()
    parts = PurePosixPath(name).parts if is_relative else ()
    is_name = all(map(_is_name, parts)) and len(str(name)) <= _MAX_PATH_LEN
    if not (parts and is_name) or ".." in parts or "\\" in name or "\0" in name:
        raise ValueError(
            f"{source} names the file {name!r:.120}, which is not in that folder; "
            "expected a relative path without '..'; the file was damaged, or made to "
            "read other files of this machine"
        )
    path = folder / name
    check_links(folder, [path])
    return path


def _is_name(part: str) -> bool:
    try:
        return len(part.encode()) < _MAX_NAME_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def check_links(folder: Path, paths: Iterable[Path]) -> None:
    """Checks that no path in a folder is a link to something outside of it.

    The files of a snapshot in the cache of the Hugging Face Hub are links to the blobs
    of the same repository, which are allowed. The folder itself may be a link.

    Raises:
      ValueError: naming the first link that leaves.
    """
    home = folder.resolve()
    homes = [home]
    if home.parent.name == "snapshots":
        homes.append(home.parent.parent / "blobs")
    for path in paths:
        try:
            target = path.resolve()
        except (OSError, RuntimeError) as error:  # a circle of links
            raise ValueError(f"{path} cannot be followed: {error}") from None
        if not any(target.is_relative_to(one) for one in homes):
            raise ValueError(
                f"{path} is a link to {target}, outside of {folder}; nothing of it was "
                "read; if the file is yours, copy it there or link it hard (ln)"
            )
