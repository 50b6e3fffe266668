"""The steps of a run on the console: one line in ten, and a bar on a terminal."""

from collections.abc import Mapping

from jaxsearch.monitor.console import Console
from jaxsearch.monitor.progress_bar import StageBar, clock
from jaxsearch.monitor.step_columns import (
    fitting_columns,
    header,
    line,
    step_seconds,
)

STEPS_PER_LINE = 10
_LINES_UNDER_A_HEADER = 50


class ConsoleWriter:
    """Writes the steps of a run to the console.

    A file gets a line for the first and the last step of a stage and for every tenth.
    A terminal shows a bar; it keeps the line of every tenth step if that has a reward,
    and one line of each other stage. Columns without a value are left out.

    Args:
      stage_steps: number of steps of each stage, in order.
      console: where the lines go.
    """

    def __init__(self, stage_steps: Mapping[str, int], console: Console):
        self._stage_steps = dict(stage_steps)
        self._console = console
        self._bar: StageBar | None = None
        self._first = 0
        self._columns = ()
        self._lines_left = 0

    def begin_stage(self, stage: str, num_done: int) -> None:
        """Begins a stage, or resumes it after `num_done` steps."""
        self._bar = StageBar(stage, self._stage_steps[stage], num_done)
        self._first = num_done + 1
        if num_done < self._stage_steps[stage]:
            self._console.show_bar(self._bar)

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        """Writes the next step of the stage that has begun."""
        bar = self._bar
        if bar is None or bar.stage != stage:
            raise ValueError(f"a step of stage {stage!r}, which has not begun")
        bar.advance()
        is_last = bar.num_done == bar.num_steps
        if is_last:
            self._console.show_bar(None)
        is_due = is_last or bar.num_done % STEPS_PER_LINE == 0
        if self._console.is_live:
            if "reward/mean" in values:
                if is_due:
                    self._write_line(bar, values)
            elif is_last:
                self._write_finished(bar, values)
        elif is_due or bar.num_done == self._first:
            self._write_line(bar, values)

    def finish(self) -> None:
        """Does nothing, because lines are written at once."""

    def close(self) -> None:
        self._console.show_bar(None)

    def _write_line(self, bar: StageBar, values: Mapping[str, float]) -> None:
        shown = {**values, "seconds": step_seconds(values)}
        place = self._place(bar.stage, f"{bar.num_done}/{bar.num_steps}")
        columns = fitting_columns(shown, len(place), self._console.width)
        if columns != self._columns or self._lines_left == 0:
            self._columns = columns
            self._lines_left = _LINES_UNDER_A_HEADER
            titles = header(self._place("stage", "step"), columns)
            self._console.print((titles, "dim"))
        self._lines_left -= 1
        self._console.print(line(place, columns, shown))

    def _write_finished(self, bar: StageBar, values: Mapping[str, float]) -> None:
        steps = f"{bar.num_steps} steps"
        if self._first > 1:
            steps = f"steps {self._first} to {bar.num_steps}"
        text = f"{bar.stage}: {steps} in {clock(bar.elapsed)}"
        if "loss" in values:
            text += f", loss {values['loss']:.4f}"
        self._console.print(text)

    def _place(self, stage: str, step: str) -> str:
        stage_width = max(len(name) for name in (*self._stage_steps, "stage"))
        step_width = 2 * max(len(str(n)) for n in self._stage_steps.values()) + 1
        return f"{stage:<{stage_width}}  {step:>{max(step_width, 4)}}"
