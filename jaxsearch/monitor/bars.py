"""Progress bars of files and counted items, on standard error if it is a terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from jaxsearch.monitor.console import is_live


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

    with Progress(
        TextColumn("[bold]{task.description}"),
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not is_live(sys.stderr),
    ) as progress:
        task = progress.add_task(title, total=total)
        yield lambda number: progress.advance(task, number)
