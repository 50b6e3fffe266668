"""Turns: one holder per key at a time, among all threads and processes of a machine."""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from jaxsearch.web.cache import ADVICE, make_folder

_LOOK_S = 0.02
_NUM_FILES = 4096  # keys share files, so that their number is bounded


class Turns:
    """Lets one holder at a time do something that has a key, such as a host.

    A turn is a lock on a file, which ends with its process, however that ends. The
    file is written at the end of a turn, so its time says when that was.

    Args:
      folder: the folder of the files, which is made.
      pause_s: seconds between the end of a turn and the next one.

    Raises:
      ValueError: if the folder cannot be made.
    """

    def __init__(self, folder: Path, pause_s: float = 0.0):
        make_folder(folder, advice=ADVICE)
        self._folder = folder
        self._pause_s = pause_s

    @contextlib.contextmanager
    def turn(self, key: str, timeout_s: float) -> Iterator[None]:
        """Context of a turn, which may have to be waited for.

        Raises:
          TimeoutError: if it does not begin in time.
        """
        deadline = time.monotonic() + timeout_s
        number = int(hashlib.sha256(key.encode()).hexdigest(), 16) % _NUM_FILES
        path = self._folder / f"{number:04}"
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(file, deadline, key)
            used = os.stat(file)
            left = used.st_mtime + self._pause_s - time.time() if used.st_size else 0.0
            # Not more than the pause: the clock may have been set back.
            time.sleep(min(max(left, 0.0), self._pause_s))
            try:
                yield
            finally:
                os.pwrite(file, b".", 0)
        finally:
            os.close(file)


def _lock(file: int, deadline: float, key: str) -> None:
    """Locks a file.

    Raises:
      TimeoutError: if another holder keeps it until the deadline.
    """
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{key} was busy all the time") from None
            time.sleep(_LOOK_S)
        else:
            return
