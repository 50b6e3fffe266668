"""Memory of this process: what only it has, and files that are mapped."""

import re
import threading
from pathlib import Path
from typing import NamedTuple

_STATUS = Path("/proc/self/status")
_EVERY_S = 0.05


class MemoryUse(NamedTuple):
    """Bytes of memory.

    Attributes:
      anonymous: memory that nobody else can use.
      mapped: pages of files, which the system takes back when it needs memory.
    """

    anonymous: int
    mapped: int


def memory_use() -> MemoryUse | None:
    """The memory of this process now; None where the system does not tell (macOS)."""
    try:
        text = _STATUS.read_text()
    except OSError:
        return None
    found = dict(re.findall(r"(Rss\w+):\s+(\d+) kB", text))
    return MemoryUse(1024 * int(found["RssAnon"]), 1024 * int(found["RssFile"]))


class PeakMemory:
    """Watches the memory of this process while it is entered.

    Attributes:
      peak_anonymous_bytes: the most that was seen; None if the system does not tell.
      peak_mapped_bytes: likewise.
    """

    peak_anonymous_bytes: int | None = None
    peak_mapped_bytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def to_json(self) -> dict[str, int | None]:
        return {
            "peak_anonymous_bytes": self.peak_anonymous_bytes,
            "peak_mapped_bytes": self.peak_mapped_bytes,
        }

    def _watch(self) -> None:
        while not self._done.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        now = memory_use()
        if now is not None:
            self.peak_anonymous_bytes = max(
                self.peak_anonymous_bytes or 0, now.anonymous
            )
            self.peak_mapped_bytes = max(self.peak_mapped_bytes or 0, now.mapped)
