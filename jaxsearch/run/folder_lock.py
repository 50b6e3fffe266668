"""The lock of a folder: one process at a time trains, evaluates or selects in it.

A requeued job may start while its predecessor is still saving, on this host or another.
The lock is a file that names its holder, which touches it every few seconds. If it has
not been touched for a while, or the holder has ended, another process takes the lock.
Clocks may be changed, so the age of a file is not enough: a lock that looks old must
stay unchanged while another process watches it.
"""

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxsearch.json_files import read_json
from jaxsearch.try_again import STATUS, TryAgainError
from jaxsearch.visible import visible

LOCK = "run.lock"
TRAINS = "trains"
_HEARTBEAT_S = 5.0
# Without a heartbeat for this long, the holder is gone. Longer than a pause of a shared
# file system or of a busy host.
_STALE_S = 45.0
# Number of heartbeats to watch a lock that looks old: a live holder updates it.
_WATCHED_BEATS = 3
# The lock, and the files that taking it leaves if the process is killed.
_LOCK_FILE = re.compile(rf"{re.escape(LOCK)}|\.{re.escape(LOCK)}\.[0-9a-f]+(\.probe)?")


@contextlib.contextmanager
def locked(
    folder: Path, say: Callable[[str], None], work: str = TRAINS
) -> Iterator[None]:
    """Context in which only this process works in a folder.

    Waits for a holder that has stopped without releasing the lock. Folders are created
    if need be, and removed again if nothing else is in them at the end.

    Args:
      folder: the folder, such as that of a run.
      say: receives a line if the lock is held and this process waits.
      work: what this process does there, for those that are refused: "evaluates".

    Raises:
      ValueError: if the folder's name is that of a file.
      TryAgainError: if another process continues to work in the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another folder with --out")
    created = [one for one in (folder, *folder.parents) if not one.exists()]
    path = folder / LOCK
    host, process = _here()
    own = {
        "host": host,
        "process": process,
        "work": work,
        "started": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "key": secrets.token_hex(8),
    }
    _take(path, own, say)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, own, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        release(folder)
        with contextlib.suppress(OSError):  # something is in it
            for one in created or [folder]:
                one.rmdir()


def release(folder: Path) -> None:
    """Removes this process's lock, if it has one there."""
    holder = _holder(folder / LOCK)
    if holder and (holder.get("host"), holder.get("process")) == _here():
        (folder / LOCK).unlink(missing_ok=True)


def is_lock_file(name: str) -> bool:
    """Whether a file's name is that of the lock, or of a file that taking it makes."""
    return _LOCK_FILE.fullmatch(name) is not None


def check_unlocked(folder: Path) -> None:
    """Checks that no process works in a folder.

    Raises:
      TryAgainError: if one does.
    """
    path = folder / LOCK
    holder = _holder(path)
    if holder is not None and not _is_gone(path, holder):
        raise TryAgainError(_refusal(folder, holder))


def _take(path: Path, own: dict[str, Any], say: Callable[[str], None]) -> None:
    """Writes the lock, after waiting for a holder that no longer beats."""
    waited_for = None
    began = time.monotonic()
    touched, give_up = _touched(path), began + _STALE_S + _HEARTBEAT_S
    while not _created(path, own):
        holder = _holder(path)
        # Also if the lock looks new because the clock was set back.
        is_silent = time.monotonic() - began > _STALE_S and _touched(path) == touched
        if not (holder is None or is_silent or _is_gone(path, holder)):
            if time.monotonic() > give_up:
                raise TryAgainError(_refusal(path.parent, holder))
            if holder != waited_for:
                say(f"{_refusal(path.parent, holder)}; waiting for it to end")
                waited_for = holder
            time.sleep(0.5)
            continue
        # Renamed first, so that of several processes only one removes this lock.
        gone = path.with_name(f".{LOCK}.{own['key']}")
        with contextlib.suppress(FileNotFoundError):
            path.rename(gone)
            gone.unlink()


def _created(path: Path, own: dict[str, Any]) -> bool:
    """Whether the lock was free, and is this process's now."""
    # Again at each try: a holder whose folder is empty removes it at its end.
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            json.dump(own, file)
    except (FileExistsError, FileNotFoundError):
        return False
    except OSError:
        # On a full disk the file is empty, and others would wait for it.
        path.unlink(missing_ok=True)
        raise
    return True


def _holder(path: Path) -> dict[str, Any] | None:
    """The content of the lock; None without a lock, {} while it is being written."""
    try:
        found = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _here() -> tuple[str, int]:
    """This host and process."""
    return socket.gethostname(), os.getpid()


def _is_gone(path: Path, holder: dict[str, Any]) -> bool:
    """Whether the holder of a lock has ended without releasing it."""
    if holder.get("host") == socket.gethostname():
        process = holder.get("process")
        # A container that starts again may have the same host name and process number.
        if not isinstance(process, int) or process == os.getpid():
            return True
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
    # The file system's clock, not this host's: they may differ by minutes.
    probe = path.with_name(f".{LOCK}.{secrets.token_hex(8)}.probe")
    touched = _touched(path)
    try:
        probe.touch()
        if touched is None or probe.stat().st_mtime - touched <= _STALE_S:
            return touched is None
    except FileNotFoundError:
        return True
    finally:
        probe.unlink(missing_ok=True)
    watched_until = time.monotonic() + _WATCHED_BEATS * _HEARTBEAT_S
    while time.monotonic() < watched_until:
        if (now := _touched(path)) != touched:
            return now is None
        time.sleep(_HEARTBEAT_S / 10.0)
    return True


def _touched(path: Path) -> float | None:
    """Time of the last heartbeat, by the file system's clock; None without a lock."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _beat(path: Path, own: dict[str, Any], ended: threading.Event) -> None:
    """Touches the lock until the end; ends the process if another one took it."""
    while not ended.wait(_HEARTBEAT_S):
        holder = _holder(path)
        if holder is not None and holder != own:
            message = f"{_refusal(path.parent, holder)}; this process ends\n"
            os.write(2, message.encode())
            os._exit(STATUS)
        with contextlib.suppress(OSError):  # tried again at the next beat
            os.utime(path)


def _refusal(folder: Path, holder: dict[str, Any]) -> str:
    # A lock of an earlier version does not name the work, which is training.
    said = {"process": "?", "host": "?", "work": TRAINS, "started": "?"} | holder
    names = ("process", "host", "work", "started")
    process, host, work, started = (visible(str(said[one])[:100]) for one in names)
    return (
        f"process {process} on {host} {work} in {folder} since {started}; stop it, or "
        "choose another folder with --out"
    )
