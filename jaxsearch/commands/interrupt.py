"""Ctrl-C and SIGTERM: end the process with one line, whatever its main thread does."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from jaxsearch import try_again
from jaxsearch.monitor.console import is_live
from jaxsearch.visible import visible

STATUS = 130
# Exit status that shells show for a process ended by SIGTERM.
_TERMINATED = 128 + signal.SIGTERM
# A SIGTERM within so many seconds of the first signal belongs to it.
_SAME_S = 1.0


class Interrupt:
    """Ends the process at Ctrl-C and at SIGTERM, which schedulers send.

    Python raises KeyboardInterrupt in the main thread, between two of its own
    instructions: after the program that is being compiled, which may take minutes, or
    inside a library's callback, which prints and loses it. So a thread of its own waits
    for the signal. It finishes what must not be lost, prints one line and ends the
    process; files are always written so that a process may end at any moment. A second
    signal ends the process without finishing anything, unless it is a SIGTERM soon
    after the first: `timeout` and schedulers send it to a process and to its group.

    Attributes:
      advice: returns what the line says after "interrupted", such as what to type to
        continue. It is called in another thread.
      resumes: whether the same command continues where it stopped. SIGTERM then ends it
        with the status of `try_again`.
    """

    def __init__(self, advice: Callable[[], str]):
        self.advice = advice
        self.resumes = False
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
        """Context in which Ctrl-C and SIGTERM end the process.

        A signal is left alone if something else already handles or ignores it, as
        shells do with SIGINT for jobs in the background, and both are in a thread,
        where nothing can be installed.
        """
        defaults = {
            signal.SIGINT: signal.default_int_handler,
            signal.SIGTERM: signal.SIG_DFL,
        }
        is_main = threading.current_thread() is threading.main_thread()
        ours = [one for one in defaults if signal.getsignal(one) is defaults[one]]
        if not is_main or not ours:
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in ours:
            signal.signal(number, _left_to_the_thread)
        watcher = threading.Thread(target=self._watch, args=(reader,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, defaults[number])
            signal.set_wakeup_fd(before)
            os.close(writer)
            watcher.join()
            os.close(reader)

    def _watch(self, reader: int) -> None:
        """Reads the numbers of signals until the other end is closed."""
        began = 0.0
        while read := os.read(reader, 1):
            number = read[0]
            # A command may handle SIGTERM itself, as `serve` does.
            if signal.getsignal(number) is not _left_to_the_thread:
                continue
            status = STATUS
            if number == signal.SIGTERM:
                status = try_again.STATUS if self.resumes else _TERMINATED
            if self._is_ending.is_set():
                if number == signal.SIGTERM and time.monotonic() < began + _SAME_S:
                    continue
                _exit(status)
            began = time.monotonic()
            self._is_ending.set()
            threading.Thread(target=self._end, args=(status,), daemon=True).start()

    def _end(self, status: int) -> None:
        try:
            for call in reversed(self._finishing):
                call()
            with contextlib.suppress(OSError):  # a pipe that nobody reads any more
                sys.stdout.flush()
            _tell(self.line)
        except Exception as error:
            _tell(f"could not finish before the end: {type(error).__name__}: {error}")
        finally:
            _exit(status)


def _left_to_the_thread(number: int, frame: object) -> None:
    """The handler of the signals that the thread of `Interrupt` reads."""


def _tell(line: str) -> None:
    # Not print: the main thread may hold the lock of the stream.
    os.write(sys.__stderr__.fileno(), f"{visible(line)}\n".encode())


def _exit(status: int) -> None:
    try:
        if is_live(sys.__stdout__):
            # The cursor is hidden while a line is being rewritten.
            os.write(sys.__stdout__.fileno(), b"\x1b[?25h")
    finally:
        # Whatever has become of the terminal.
        os._exit(status)
