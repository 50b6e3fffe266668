"""Series of values by step, and their preparation for a chart."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MARKERS = ("circle", "diamond", "square", "triangle", "plus", "wedge")


class Curve(NamedTuple):
    """Values of one stage by step; a missing value is NaN."""

    steps: np.ndarray
    values: np.ndarray


class Stage(NamedTuple):
    """A stage of the run, with its first and last measured steps."""

    name: str
    first: int
    last: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One named quantity.

    Attributes:
      label: its name in the legend.
      curves: one per stage, so that nothing is connected or averaged across stages.
      colour: index into the colours of the page.
      marker: shape of its markers; None draws lines.
    """

    label: str
    curves: tuple[Curve, ...]
    colour: int
    marker: str | None = None

    @property
    def is_zero(self) -> bool:
        """Whether every measured value is 0."""
        values = np.concatenate([curve.values for curve in self.curves])
        return not np.any(values[np.isfinite(values)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """Series on common axes, as lines and markers or as stacked areas.

    Attributes:
      title: heading of the chart.
      unit: unit of its values.
      series: what is drawn.
      zeros: labels of series that are 0 at every step, and therefore not drawn.
      is_stacked: whether the series are stacked areas.
      origin: the run's step before the first one of the chart's stage, from which the
        labels of the axis count.
    """

    title: str
    unit: str
    series: tuple[Series, ...]
    zeros: tuple[str, ...] = ()
    is_stacked: bool = False
    origin: int = 0


def smoothed(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns a centred running mean over finite values, and its window width.

    The window is a fifteenth of the curve and is shorter at its ends. A curve too short
    for a window of 3 is returned unchanged, with window 1.
    """
    window = 2 * (len(values) // 30) + 1
    if window < 3:
        return values, 1
    is_finite = np.isfinite(values)
    ones = np.ones(window)
    totals = np.convolve(np.where(is_finite, values, 0.0), ones, mode="same")
    counts = np.convolve(is_finite.astype(float), ones, mode="same")
    means = totals / np.maximum(counts, 1.0)
    return np.where(is_finite, means, math.nan), window


def ticks(low: float, high: float, *, num: int = 5) -> list[float]:
    """About `num` multiples of 1, 2 or 5 times a power of ten in [low, high]."""
    raw = (high - low) / num
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def tick_texts(values: Sequence[float]) -> list[str]:
    """Labels of equally spaced ticks, with as many digits as they need."""
    texts = [number_text(value) for value in values]
    if len(values) < 2:
        return texts
    step = values[1] - values[0]
    shown = [float(text.replace(",", "")) for text in texts]
    if max(abs(a - b) for a, b in zip(shown, values, strict=True)) < 0.01 * step:
        return texts
    decimals = -math.floor(math.log10(step) + 1e-9)
    return [f"{value + 0.0:,.{max(decimals, 0)}f}" for value in values]


def number_text(value: float | int) -> str:
    """Formats a number for a label, in scientific notation only if it is extreme."""
    value += 0  # -0.0 becomes 0.0
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
