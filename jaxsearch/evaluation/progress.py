"""Progress of an evaluation on standard error, with the remaining time."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from jaxsearch import processes
from jaxsearch.monitor.bars import count_bar
from jaxsearch.monitor.console import is_live
from jaxsearch.monitor.progress_bar import clock

# Without a terminal, a line is printed after this time.
_LINE_S = 60.0


@contextlib.contextmanager
def progress(num_new: int, num_done: int) -> Iterator[Callable[[int], None]]:
    """Shows the number of finished answers, on the first process.

    Shows a bar on a terminal, and a line per minute elsewhere.

    Args:
      num_new: number of answers that this process makes.
      num_done: number of answers from an earlier command, over all processes.

    Yields:
      A function that takes the number of new answers.
    """
    before = f" ({num_done} made before)" if num_done else ""
    if not processes.is_primary():
        yield lambda number: None
    elif is_live(sys.stderr):
        with count_bar(f"answers{before}", num_new) as advance:
            yield advance
    else:
        yield _Lines(num_new, before).advance


class _Lines:
    """Lines with the number of answers and the remaining time."""

    def __init__(self, num_new: int, before: str):
        self._num_new = num_new
        self._before = before
        self._num_finished = 0
        self._started = self._printed = time.monotonic()

    def advance(self, number: int) -> None:
        self._num_finished += number
        now = time.monotonic()
        if now - self._printed < _LINE_S or not self._num_finished:
            return
        self._printed = now
        elapsed = now - self._started
        left = elapsed / self._num_finished * (self._num_new - self._num_finished)
        print(
            f"{self._num_finished} of {self._num_new} answers{self._before}, "
            f"{clock(elapsed)}, {clock(left)} left",
            file=sys.stderr,
            flush=True,
        )
