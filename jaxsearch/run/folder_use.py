"""A folder that the processes of one command use alone, until they end."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jaxsearch import processes
from jaxsearch.run.folder_lock import TRAINS, locked, release


@contextlib.contextmanager
def used_alone(
    folder: Path,
    finishing: Callable[..., contextlib.AbstractContextManager[Any]] = nullcontext,
    work: str = TRAINS,
) -> Iterator[None]:
    """Context in which only these processes write to a folder.

    The first process holds the folder's lock; see `folder_lock.locked`.

    Args:
      folder: the folder.
      finishing: context that receives a function which releases the lock, to be called
        before the process is ended early.
      work: what the processes do in the folder, for those that are refused.

    Raises:
      ValueError: if the folder's name is that of a file.
      TryAgainError: if another process continues to work in the folder.
    """
    with contextlib.ExitStack() as held:
        lock = locked(folder, processes.say_once, work)
        processes.on_primary(lambda: held.enter_context(lock))
        with finishing(functools.partial(release, folder)):
            yield
