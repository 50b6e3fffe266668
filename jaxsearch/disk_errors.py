"""One-line errors for disks that are full, over a quota or read-only."""

import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

# Errors of a write when a disk, a quota or a file size is at its limit, or when the
# place is not writable.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
# TensorStore's text for a system error number.
_OS_ERROR = re.compile(r"os_error_code='(\d+)'")


class DiskError(ValueError):
    """A failed write that would fail again until the user frees or changes the disk."""


@contextlib.contextmanager
def explain_disk(folder: Path, advice: str) -> Iterator[None]:
    """Context in which a failed write to a folder raises a readable error.

    Args:
      folder: the folder that the context writes to.
      advice: what to do once the cause is fixed.

    Raises:
      DiskError: instead of the system's or TensorStore's error; other errors
        propagate.
    """
    # Orbax logs each error in each of its threads, with a long traceback.
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
    """Whether a log line reports something other than a full disk."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or not is_full(error)


def os_error(error: BaseException | None) -> int | None:
    """The system error number behind an error; None if there is none.

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
    """Whether an error means a full disk, quota or file."""
    return os_error(error) in _FULL


def _free(folder: Path) -> str:
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return f" ({shutil.disk_usage(there).free / 1e6:.1f} MB are free)"


def _is_in(folder: Path, error: BaseException) -> bool:
    """Whether an error's file is in a folder, or is one of its parents."""
    name = error.filename if isinstance(error, OSError) else None
    if not isinstance(name, str):
        return str(folder) in str(error)
    path, folder = Path(name).absolute(), folder.absolute()
    return path.is_relative_to(folder) or folder.is_relative_to(path)
