"""The progress of a build on standard error: its stage, and the passages done."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxsearch.bad_rows import print_note

if TYPE_CHECKING:
    from jaxsearch.search.build_settings import Progress


@contextlib.contextmanager
def shown_progress() -> Iterator["Progress"]:
    """Shows stages, and the passages done with their rate and the time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    from jaxsearch.search.build_settings import STAGES, Progress

    console = Console(stderr=True)
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # where it would print an empty line
    )
    with bars:
        stages = bars.add_task("", total=len(STAGES), rate="")
        tasks: list[Any] = []
        began: list[tuple[float, int]] = []

        def on_stage(stage: str) -> None:
            bars.update(stages, description=stage, completed=STAGES.index(stage))
            while tasks:
                bars.remove_task(tasks.pop())
            began.clear()

        def report(num_done: int, num: int) -> None:
            now = time.monotonic()
            if not tasks:
                tasks.append(bars.add_task("passages", total=num, rate=""))
                began.append((now, num_done))
            seconds, done = now - began[0][0], num_done - began[0][1]
            rate = f"{done / seconds:,.0f} rows/s" if seconds > 0 else ""
            bars.update(tasks[0], completed=num_done, rate=rate)

        yield Progress(on_stage=on_stage, report=report, note=print_note)
