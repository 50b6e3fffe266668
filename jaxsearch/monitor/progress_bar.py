"""The progress of a stage as one line of text, with the remaining time."""

import collections
import time

_NUM_MEASURED = 20  # steps that the remaining time is computed from
_MAX_BAR = 40  # columns


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"


class StageBar:
    """Counts the steps of a stage and renders them as a line.

    The remaining time is that of the last steps, with the evaluations between them. The
    first step is not counted, because its programs are compiled.

    Args:
      stage: name of the stage.
      num_steps: steps of the whole stage.
      num_done: steps that an earlier process has done.
    """

    def __init__(self, stage: str, num_steps: int, num_done: int):
        self.stage = stage
        self.num_steps = num_steps
        self.num_done = num_done
        self.started = time.monotonic()
        self._last = None
        self._seconds = collections.deque(maxlen=_NUM_MEASURED)

    def advance(self) -> None:
        """Counts a finished step."""
        now = time.monotonic()
        if self._last is not None:
            self._seconds.append(now - self._last)
        self._last = now
        self.num_done += 1

    @property
    def elapsed(self) -> float:
        """Seconds since this process began the stage."""
        return time.monotonic() - self.started

    @property
    def remaining(self) -> float | None:
        """Seconds until the stage's end; None before the second step."""
        if not self._seconds:
            return None
        mean = sum(self._seconds) / len(self._seconds)
        since = time.monotonic() - self._last
        return max(0.0, mean * (self.num_steps - self.num_done) - since)

    @property
    def place(self) -> str:
        return f"{self.stage} {self.num_done}/{self.num_steps}"

    def render(self, width: int) -> str:
        """The line; the bar is left out where it does not fit."""
        times = clock(self.elapsed)
        if self.remaining is not None:
            times += f", {clock(self.remaining)} left"
        size = min(_MAX_BAR, width - len(self.place) - len(times) - 4)
        if size < 5:
            return f"{self.place} {times}"
        done = size * self.num_done // self.num_steps
        return f"{self.place} [{'=' * done}{' ' * (size - done)}] {times}"
