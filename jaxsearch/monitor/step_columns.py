"""The columns of a step's line on the console, chosen by what fits."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Column(NamedTuple):
    """A column: its title, the metric that it shows, and the format of a value."""

    title: str
    key: str
    form: str

    @property
    def width(self) -> int:
        return int(self.form.partition(".")[0].rstrip(","))

    def cell(self, value: float) -> str:
        form = self.form if math.isfinite(value) else str(self.width)
        return f"{value:>{form}}"


COLUMNS = (
    Column("reward", "reward/mean", "7.3f"),
    Column("em", "em", "6.3f"),
    Column("searches", "searches/mean", "8.2f"),
    Column("len", "len/policy", "6.0f"),
    Column("loss", "loss", "8.4f"),
    Column("kl", "kl", "8.4f"),
    Column("grad", "grad_norm", "7.3f"),
    Column("s", "seconds", "7.2f"),
    Column("tok/s", "tokens_per_s/total", "8,.0f"),
)
# Titles of columns in the order in which a narrow terminal loses them.
_FIRST_TO_GO = ("tok/s", "grad", "kl", "len", "loss", "s", "searches", "em", "reward")
_GAP = "  "


def step_seconds(values: Mapping[str, float]) -> float:
    """Seconds of a step: the sum of `time/*`; search_wait is part of rollout."""
    return sum(
        value
        for key, value in values.items()
        if key.startswith("time/") and key != "time/search_wait"
    )


def fitting_columns(
    values: Mapping[str, float], place_width: int, width: int | None
) -> tuple[Column, ...]:
    """The columns that have a value and fit.

    Args:
      values: metrics of the step.
      place_width: width of the stage and step at the left.
      width: width of the terminal; None for a file, where every column fits.
    """
    columns = [column for column in COLUMNS if column.key in values]
    for title in _FIRST_TO_GO:
        if width is None or place_width + _width(columns) <= width:
            break
        columns = [column for column in columns if column.title != title]
    return tuple(columns)


def _width(columns: Sequence[Column]) -> int:
    return sum(len(_GAP) + column.width for column in columns)


def header(place: str, columns: Sequence[Column]) -> str:
    """The line of titles."""
    titles = [f"{column.title:>{column.width}}" for column in columns]
    return _GAP.join([place, *titles])


def line(place: str, columns: Sequence[Column], values: Mapping[str, float]) -> str:
    """The line of a step's values."""
    return _GAP.join([place, *(column.cell(values[column.key]) for column in columns)])
