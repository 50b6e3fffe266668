"""Ctrl-C: ends the process with one line, whatever its main thread is doing."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from jaxsearch.monitor.console import is_live

STATUS = 130


class Interrupt:
    """What happens at Ctrl-C.

    Python raises KeyboardInterrupt in the main thread, between two of its own
    instructions: after the program that is being compiled, which may take minutes, or
    inside a library's callback, which prints and loses it. So a thread of its own waits
    for the signal. It finishes what must not be lost, prints one line and ends the
    process; files are always written so that a process may end at any moment. The
    second Ctrl-C ends the process without finishing anything.

    Attributes:
      advice: returns what the line says after "interrupted", such as what to type to
        go on. It is called in another thread.
    """

    def __init__(self, advice: Callable[[], str]):
        self.advice = advice
        self._finishing: list[Callable[[], None]] = []
        self._is_ending = threading.Event()

    @contextlib.contextmanager
    def finishing(self, call: Callable[[], None]) -> Iterator[None]:
        """Context in which Ctrl-C calls `call` before the process ends.

        It is called in another thread, and before those of the contexts around.
        """
        self._finishing.append(call)
        try:
            yield
        finally:
            self._finishing.remove(call)
            if self._is_ending.is_set():
                # The other thread ends the process; returning would race with it.
                threading.Event().wait()

    @property
    def line(self) -> str:
        """The line that is printed."""
        return f"interrupted; {self.advice()}"

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Context in which Ctrl-C ends the process.

        Does nothing if something else already handles or ignores the signal, as shells
        do for jobs in the background, or in a thread, where nothing can be installed.
        """
        is_main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGINT)
        if not is_main or handler is not signal.default_int_handler:
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, lambda number, frame: None)
        watcher = threading.Thread(target=self._watch, args=(reader,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
            signal.set_wakeup_fd(before)
            os.close(writer)
            watcher.join()
            os.close(reader)

    def _watch(self, reader: int) -> None:
        """Reads the numbers of signals until the other end is closed."""
        while number := os.read(reader, 1):
            if number[0] != signal.SIGINT:
                continue
            if self._is_ending.is_set():
                _exit()
            self._is_ending.set()
            threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        try:
            for call in reversed(self._finishing):
                call()
            with contextlib.suppress(OSError):  # a pipe that nobody reads any more
                sys.stdout.flush()
            # Not print: the main thread may hold the lock of the stream.
            os.write(sys.__stderr__.fileno(), f"{self.line}\n".encode())
        finally:
            _exit()


def _exit() -> None:
    if is_live(sys.__stdout__):
        # The cursor is hidden while a line is being rewritten.
        os.write(sys.__stdout__.fileno(), b"\x1b[?25h")
    os._exit(STATUS)
