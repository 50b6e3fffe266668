"""The lock of a run in a bucket: one process at a time trains in it.

The lock is an object that its holder rewrites every few seconds with a growing number.
Buckets have no common clock, so another process takes it only if the number stays the
same while it watches, or if the holder has released it or ended on this host.
"""

import dataclasses
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable

from jaxsearch.json_files import parse_json
from jaxsearch.json_types import typed
from jaxsearch.run.bucket import Bucket, BucketError
from jaxsearch.try_again import STATUS, TryAgainError
from jaxsearch.visible import visible

LOCK = "run.lock"
_BEAT_S = 15.0
# Beats without a change after which the holder is gone.
_SILENT_BEATS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """The content of the lock.

    Attributes:
      key: a random text of each holder.
      host, process, started: where and when it began, for messages.
      beat: a growing number; -1 once the lock is released.
    """

    key: str
    host: str
    process: int
    started: str
    beat: int = 0


class BucketLock:
    """Holds the lock of a run in a bucket.

    Args:
      bucket: the bucket.
      say: receives a line if another process holds the lock and this one waits.
      prepare: receives the holder before this one and this one, just before the lock is
        written; the process may be killed between the two.

    Attributes:
      before: the holder before this one; None for a new run.
      holder: this holder.

    Raises:
      TryAgainError: if another process continues to train there.
      BucketError: if the bucket cannot be read or written.
    """

    def __init__(
        self,
        bucket: Bucket,
        say: Callable[[str], None],
        prepare: Callable[[Holder | None, Holder], None] = lambda before, holder: None,
    ):
        self._bucket = bucket
        self.before = self._free(say)
        self.holder = Holder(
            key=secrets.token_hex(8),
            host=socket.gethostname(),
            process=os.getpid(),
            started=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        )
        prepare(self.before, self.holder)
        self._write(self.holder)
        # Of two processes that have begun at the same time, the last one has it.
        self.check()
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    def check(self) -> None:
        """Checks that this process still has the lock.

        Raises:
          TryAgainError: if another process has taken it.
        """
        found = self._read()
        if found is not None and found.key != self.holder.key:
            raise TryAgainError(_refusal(self._bucket.address, found))

    def release(self) -> None:
        """Lets the next process start at once."""
        self._ended.set()
        self._beating.join()
        self.check()
        self._write(dataclasses.replace(self.holder, beat=-1))

    def _free(self, say: Callable[[str], None]) -> Holder | None:
        """Waits until no process holds the lock; the last holder, if there was one."""
        found, has_said = self._read(), False
        give_up = time.monotonic() + 2 * _SILENT_BEATS * _BEAT_S
        unchanged_since = time.monotonic()
        while found is not None and not _is_gone(found):
            now = time.monotonic()
            if now - unchanged_since > _SILENT_BEATS * _BEAT_S:
                return found
            refusal = _refusal(self._bucket.address, found)
            if now > give_up:
                raise TryAgainError(refusal)
            if not has_said:
                say(f"{refusal}; waiting for it to end")
                has_said = True
            time.sleep(_BEAT_S / 5)
            again = self._read()
            if again != found:
                found, unchanged_since = again, time.monotonic()
        return found

    def _read(self) -> Holder | None:
        content = self._bucket.read(LOCK)
        if content is None:
            return None
        where = f"{self._bucket.address}/{LOCK}"
        return typed(parse_json(content, where), Holder, where)

    def _write(self, holder: Holder) -> None:
        self._bucket.write(LOCK, json.dumps(dataclasses.asdict(holder)).encode())

    def _beat(self) -> None:
        """Rewrites the lock until the end; ends the process if another one took it."""
        beat = 0
        while not self._ended.wait(_BEAT_S):
            try:
                self.check()
                beat += 1
                self._write(dataclasses.replace(self.holder, beat=beat))
            except TryAgainError as error:
                os.write(2, f"{error}; this process ends\n".encode())
                os._exit(STATUS)
            except (BucketError, ValueError):
                continue  # tried again at the next beat


def _is_gone(holder: Holder) -> bool:
    """Whether a holder has released the lock, or has ended on this host."""
    if holder.beat < 0:
        return True
    if holder.host != socket.gethostname() or holder.process <= 0:
        return False
    # A container that starts again may have the same host name and process number.
    if holder.process == os.getpid():
        return True
    try:
        os.kill(holder.process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False


def _refusal(address: str, holder: Holder) -> str:
    host, started = visible(holder.host[:100]), visible(holder.started[:100])
    return (
        f"process {holder.process} on {host} trains in {address} since {started}; stop "
        "it, or choose another folder with --out"
    )
