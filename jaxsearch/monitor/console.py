"""What a command tells the person who started it: lines, and one line that moves.

On a terminal the last line shows what is going on until it is done. Anywhere else, in a
file, a pipe or a terminal with TERM=dumb, there are only plain lines.
"""

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from jaxsearch.monitor.progress_bar import StageBar, clock
from jaxsearch.visible import visible

# Shorter compilations, mostly those of programs that exist already, leave no line.
_MIN_LOGGED_S = 1.0


def is_live(stream: io.TextIOBase | None) -> bool:
    """Whether a stream is a terminal on which a line can be written again."""
    if stream is None:  # Python's standard output, where it is closed
        return False
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class Console:
    """Lines on a stream, and on a terminal a line that shows what is going on.

    Args:
      stream: output stream; None means standard output.
      is_silent: prints nothing, for all processes of a run but one.
    """

    def __init__(self, stream: io.TextIOBase | None = None, *, is_silent: bool = False):
        self._stream = sys.stdout if stream is None else stream
        self._is_silent = is_silent or self._stream is None
        self._lock = threading.RLock()
        self._bar: StageBar | None = None
        self._activity: Callable[[], str] | None = None
        self._live: Any = None
        self._rich: Any = None
        if not self._is_silent and is_live(self._stream):
            from rich.console import Console as RichConsole

            self._rich = RichConsole(
                file=self._stream, force_terminal=True, highlight=False
            )

    @property
    def is_live(self) -> bool:
        """Whether the output is a terminal on which a line can be written again."""
        return self._rich is not None

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None for a file, where lines may be long."""
        return self._rich.width if self._rich is not None else None

    def print(
        self, *parts: str | tuple[str, str], is_for_copying: bool = False
    ) -> None:
        """Prints a line; on a terminal it is broken between words.

        Control characters in the text are shown, not obeyed.

        Args:
          parts: pieces of text, each alone or with a style of rich for terminals.
          is_for_copying: the terminal itself breaks the line where it is full, so that
            what is copied from it, such as a command, has no line break.
        """
        texts = [visible(part if isinstance(part, str) else part[0]) for part in parts]
        with self._lock:
            if self._is_silent:
                return
            try:
                if self._rich is not None:
                    from rich.text import Text

                    styles = ["" if isinstance(one, str) else one[1] for one in parts]
                    styled = zip(texts, styles, strict=True)
                    self._rich.print(Text.assemble(*styled), soft_wrap=is_for_copying)
                    return
                self._stream.write("".join(texts) + "\n")
                self._stream.flush()
            except OSError:
                self._be_silent()

    def _be_silent(self) -> None:
        """Prints nothing more, because the output cannot be written.

        The pipe has no reader any more, or a log's disk is full. The run continues: its
        results are in its folder.
        """
        self._is_silent = True
        # What is still in the stream's buffer would fail again when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def show_bar(self, bar: StageBar | None) -> None:
        """Shows the progress of a stage in the last line; None removes it."""
        with self._lock:
            self._bar = bar
            self._update()

    @contextlib.contextmanager
    def activity(self, title: Callable[[], str] | str) -> Iterator[None]:
        """Shows on a terminal what the block does, and for how long."""
        started, before = time.monotonic(), self._activity

        def text() -> str:
            now = title if isinstance(title, str) else title()
            return f"{clock(time.monotonic() - started)} {now}"

        self._set_activity(text)
        try:
            yield
        finally:
            self._set_activity(before)

    @contextlib.contextmanager
    def compiling(self, title: str, num_programs: int) -> Iterator[Callable[[], None]]:
        """An `Announce`: shows what is compiled, and in a file how long it took."""
        started, num_done = time.monotonic(), 0

        def advance() -> None:
            nonlocal num_done
            with self._lock:
                num_done += 1

        def text() -> str:
            counts = f": {num_done} of {num_programs} programs"
            return f"compiling {title}" + counts * (num_programs > 1)

        with self.activity(text):
            yield advance
        seconds = time.monotonic() - started
        if not self.is_live and seconds >= _MIN_LOGGED_S:
            counts = f" ({num_programs} programs)" * (num_programs > 1)
            self.print(f"compiled {title}{counts} in {seconds:.1f} s")

    def close(self) -> None:
        """Removes the last line; nothing is printed afterwards."""
        with self._lock:
            self._bar, self._activity = None, None
            self._update()
            self._is_silent = True

    def _set_activity(self, text: Callable[[], str] | None) -> None:
        with self._lock:
            self._activity = text
            self._update()

    def _update(self) -> None:
        """Starts or stops the last line, as needed."""
        is_needed = self._bar is not None or self._activity is not None
        if self._rich is None or self._is_silent or is_needed == bool(self._live):
            return
        if not is_needed:
            self._live.stop()
            self._live = None
            return
        from rich.live import Live

        self._live = Live(
            console=self._rich,
            get_renderable=self._last_line,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),
        )
        self._live.start()

    def _last_line(self) -> Any:
        from rich.text import Text

        bar, activity = self._bar, self._activity
        # Room for the ^C that a terminal writes, and for those that break a full line.
        width = self._rich.width - 3
        if activity is None:
            shown = "" if bar is None else bar.render(width)
        else:
            shown = activity() if bar is None else f"{bar.place} {activity()}"
        return Text(shown[:width], no_wrap=True, overflow="crop")
