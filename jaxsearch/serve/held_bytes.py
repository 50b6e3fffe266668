"""The memory of the bodies of all requests under way."""

import contextlib
from collections.abc import Iterator


class HeldBytes:
    """Counts the bytes that requests hold, from the first chunk of a body on.

    Used in the event loop alone.

    Args:
      most: bytes that all requests may hold together.
    """

    def __init__(self, most: int):
        self._most = most
        self._num_bytes = 0

    @contextlib.contextmanager
    def share(self) -> Iterator["Share"]:
        """Context of a request, which holds nothing at its end."""
        share = Share(self)
        try:
            yield share
        finally:
            share.clear()

    def change(self, num_bytes: int) -> bool:
        """Counts bytes that are held, or given up if negative; False if too many."""
        if self._num_bytes + num_bytes > self._most:
            return False
        self._num_bytes += num_bytes
        return True


class Share:
    """The bytes that one request holds."""

    def __init__(self, held: HeldBytes):
        self._held = held
        self._num_bytes = 0

    def add(self, num_bytes: int) -> bool:
        """Counts more bytes; counts none and returns False if there are too many."""
        is_counted = self._held.change(num_bytes)
        self._num_bytes += num_bytes if is_counted else 0
        return is_counted

    def clear(self) -> None:
        """Gives up all bytes."""
        self._held.change(-self._num_bytes)
        self._num_bytes = 0
