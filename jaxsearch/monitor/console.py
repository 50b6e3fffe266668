"""Terminal output of a run: one line per step, and progress bars."""

import contextlib
import io
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# Title, key of the metric, format.
COLUMNS = (
    ("reward", "reward/mean", "7.3f"),
    ("em", "em", "6.3f"),
    ("searches", "searches/mean", "8.2f"),
    ("len", "len/policy", "6.0f"),
    ("loss", "loss", "8.4f"),
    ("kl", "kl", "8.4f"),
    ("grad", "grad_norm", "7.3f"),
    ("s", "seconds", "7.2f"),
    ("tok/s", "tokens_per_s/total", "8,.0f"),
)
LINES_UNDER_A_HEADER = 25


def step_seconds(values: Mapping[str, float]) -> float:
    """Seconds of a step: the sum of `time/*`; search_wait is part of rollout."""
    return sum(
        value
        for key, value in values.items()
        if key.startswith("time/") and key != "time/search_wait"
    )


@contextlib.contextmanager
def byte_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on standard error, if that is a terminal.

    Yields:
      A function to be called with the number of new bytes.
    """
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _bar(title, total, *columns) as advance:
        yield advance


@contextlib.contextmanager
def count_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Same as `byte_bar` for counted items, with elapsed and remaining time."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with _bar(title, total, BarColumn(), MofNCompleteColumn(), *times) as advance:
        yield advance


@contextlib.contextmanager
def _bar(title: str, total: int, *columns: Any) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("[bold]{task.description}"),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(title, total=total)
        yield lambda number: progress.advance(task, number)


class ConsoleWriter:
    """Prints one aligned line per step, and on a terminal a bar with remaining time.

    Columns without a value in the stage are omitted. If the output is not a terminal,
    the lines are plain text without a bar.

    Args:
      stage_steps: number of steps of each stage, in order.
      stream: output stream; None means standard output.
    """

    def __init__(
        self, stage_steps: Mapping[str, int], *, stream: io.TextIOBase | None = None
    ):
        from rich.console import Console

        self._stage_steps = dict(stage_steps)
        self._console = Console(
            file=sys.stdout if stream is None else stream, highlight=False
        )
        self._progress = None
        self._task = None
        self._stage = ""
        self._columns = ()
        self._lines_left = 0

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        if stage not in self._stage_steps:
            raise ValueError(
                f"unknown stage {stage!r}: this run has {list(self._stage_steps)}"
            )
        stage_step = step - self._steps_before(stage)
        if stage != self._stage:
            self._begin(stage, stage_step)
        shown = {**values, "seconds": step_seconds(values)}
        columns = tuple(column for column in COLUMNS if column[1] in shown)
        if columns != self._columns or self._lines_left == 0:
            self._columns = columns
            self._lines_left = LINES_UNDER_A_HEADER
            self._print(self._header(), style="dim")
        self._lines_left -= 1
        self._print(self._line(stage_step, shown))
        if self._progress is not None:
            self._progress.update(self._task, completed=stage_step)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()

    def _steps_before(self, stage: str) -> int:
        names = list(self._stage_steps)
        return sum(self._stage_steps[name] for name in names[: names.index(stage)])

    def _begin(self, stage: str, stage_step: int) -> None:
        self._stage = stage
        self._columns = ()
        if not self._console.is_terminal:
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        if self._progress is None:
            self._progress = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                expand=True,
            )
            self._progress.start()
        # A resumed stage starts from its step; otherwise the speed would be too high.
        self._task = self._progress.add_task(
            stage, total=self._stage_steps[stage], completed=stage_step - 1
        )

    def _header(self) -> str:
        titles = [f"{title:>{_width(form)}}" for title, _, form in self._columns]
        return "  ".join([self._place("stage", "step"), *titles])

    def _line(self, stage_step: int, shown: Mapping[str, float]) -> str:
        place = self._place(self._stage, f"{stage_step}/{self._total()}")
        cells = [_cell(shown[key], form) for _, key, form in self._columns]
        return "  ".join([place, *cells])

    def _place(self, stage: str, step: str) -> str:
        stage_width = max(len(name) for name in (*self._stage_steps, "stage"))
        step_width = 2 * max(len(str(n)) for n in self._stage_steps.values()) + 1
        return f"{stage:<{stage_width}}  {step:>{max(step_width, 4)}}"

    def _total(self) -> int:
        return self._stage_steps[self._stage]

    def _print(self, line: str, style: str | None = None) -> None:
        # soft_wrap keeps lines wider than the terminal complete, for logs.
        self._console.print(line, style=style, markup=False, soft_wrap=True)


def _width(form: str) -> int:
    return int(form.partition(".")[0].rstrip(","))


def _cell(value: float, form: str) -> str:
    if not math.isfinite(value):
        return f"{value:>{_width(form)}}"
    return f"{value:{form}}"
