"""Disks that are full, over a quota or read-only: one line, and the user must act."""

import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

# What a write fails with when a disk, a quota or the size of a file is at its limit, or
# nothing can be written there at all.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
# How TensorStore states the number of an error of the system.
_OS_ERROR = re.compile(r"os_error_code='(\d+)'")


class DiskError(ValueError):
    """A write that failed, and would fail again until the user acts."""


@contextlib.contextmanager
def explain_disk(folder: Path, advice: str) -> Iterator[None]:
    """Context in which a failed write to a folder raises a readable error.

    Args:
      folder: where the context writes.
      advice: what to do when the cause is mended.

    Raises:
      DiskError: instead of the error of the system or of TensorStore; other errors
        propagate.
    """
    # Orbax logs each error in each of its threads, with a page of its calls.
    logger = logging.getLogger("absl")
    logger.addFilter(_is_news)
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        number = os_error(error)
        if number in _FULL:
            raise DiskError(
                f"writing to {folder} failed: {os.strerror(number)}"
                f"{_free(folder) if number == errno.ENOSPC else ''}; make room, then "
                f"{advice}"
            ) from error
        if number in _READ_ONLY and _is_in(folder, error):
            raise DiskError(
                f"{folder} cannot be written: {os.strerror(number)}; make it writable, "
                "or choose another folder with --out"
            ) from error
        raise
    finally:
        logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of a log tells something else than that a disk is full."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or not is_full(error)


def os_error(error: BaseException | None) -> int | None:
    """The number of the system's error that is behind an error; None if there is none.

    TensorStore, which writes checkpoints, raises a ValueError with the number in it.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if found := _OS_ERROR.search(str(error)):
            return int(found[1])
        error = error.__cause__ or error.__context__
    return None


def is_full(error: BaseException) -> bool:
    """Whether an error is that of a full disk, quota or file."""
    return os_error(error) in _FULL


def _free(folder: Path) -> str:
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return f" ({shutil.disk_usage(there).free / 1e6:.1f} MB are free)"


def _is_in(folder: Path, error: BaseException) -> bool:
    """Whether the file of an error is in a folder, or is one of its parents."""
    name = error.filename if isinstance(error, OSError) else None
    if not isinstance(name, str):
        return str(folder) in str(error)
    path, folder = Path(name).absolute(), folder.absolute()
    return path.is_relative_to(folder) or folder.is_relative_to(path)
