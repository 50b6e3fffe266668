"""Axes of a chart as SVG: its range, grid, labels and stage marks."""

import dataclasses
import html
import math
from collections.abc import Sequence

import numpy as np

from jaxsearch.report.series import Chart, Series, Stage, smoothed, tick_texts, ticks

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 22, 24
CHARACTER = 7  # upper bound of a label character's width


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes:
    """Ranges of a chart's axes in steps of the run, and their mapping to SVG.

    Attributes:
      origin: step of the run at which the labels of the horizontal axis have 0.
    """

    origin: int
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, step: float | int) -> float:
        share = (step - self.x_low) / (self.x_high - self.x_low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float | int) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def path(self, steps: np.ndarray, values: np.ndarray) -> str:
        """SVG path data; a value that is not finite leaves a gap."""
        words, is_open = [], False
        for step, value in zip(steps, values, strict=True):
            if math.isfinite(value):
                words.append(f"{'L' if is_open else 'M'}{self.x(step)} {self.y(value)}")
            is_open = math.isfinite(value)
        return "".join(words)


def axes_of(chart: Chart) -> Axes:
    curves = [curve for series in chart.series for curve in series.curves]
    steps = np.concatenate([curve.steps for curve in curves])
    values = np.concatenate([curve.values for curve in curves])
    x_low, x_high = float(steps.min()), float(steps.max())
    if x_low == x_high:
        x_low, x_high = x_low - 1.0, x_high + 1.0
    if chart.is_stacked:
        tops = [stacked.max() for stacked in stacks(chart.series)[-1]]
        return Axes(
            origin=chart.origin,
            x_low=x_low,
            x_high=x_high,
            y_low=0.0,
            y_high=float(max(tops)) or 1.0,
        )
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    if 0.0 <= low <= 0.5 * high:
        low = 0.0
    # A range as narrow as rounding errors would have unreadable labels.
    is_flat = high - low <= 1e-4 * max(abs(low), abs(high))
    margin = max(0.1 * abs(high), 0.5 * (high == 0.0))
    margin = margin if is_flat else 0.06 * (high - low)
    return Axes(
        origin=chart.origin,
        x_low=x_low,
        x_high=x_high,
        y_low=low - margin if low else 0.0,
        y_high=high + margin,
    )


def stacks(series: Sequence[Series]) -> list[list[np.ndarray]]:
    """Cumulative smoothed values, by series and stage."""
    below = [np.zeros(len(curve.steps)) for curve in series[0].curves]
    stacks = []
    for one in series:
        below = [
            base + np.nan_to_num(smoothed(curve.values)[0])
            for base, curve in zip(below, one.curves, strict=True)
        ]
        stacks.append(below)
    return stacks


def grid(axes: Axes) -> str:
    words = ['<g class="grid">']
    values = ticks(axes.y_low, axes.y_high)
    for value, text in zip(values, tick_texts(values), strict=True):
        y = axes.y(value)
        words.append(
            f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 7}" y="{y + 4}" text-anchor="end">'
            f"{text}</text>"
        )
    for step in ticks(axes.x_low - axes.origin, axes.x_high - axes.origin, num=6):
        if step == int(step):
            words.append(
                f'<text x="{axes.x(step + axes.origin)}" y="{HEIGHT - BOTTOM + 17}" '
                f'text-anchor="middle">{int(step)}</text>'
            )
    words.append(
        f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
        f'<text class="name" x="{LEFT - 18}" y="{HEIGHT - BOTTOM + 17}" '
        'text-anchor="end">step</text></g>'
    )
    return "".join(words)


def stage_marks(axes: Axes, stages: Sequence[Stage]) -> str:
    words = ['<g class="stage">']
    for stage in stages:
        if stage.last < axes.x_low or stage.first > axes.x_high:
            continue
        x = axes.x(max(stage.first, axes.x_low))
        if stage.first > axes.x_low:
            words.append(f'<path d="M{x} {TOP - 14}V{HEIGHT - BOTTOM}"/>')
        room = axes.x(min(stage.last, axes.x_high)) - x
        if room > CHARACTER * len(stage.name):
            words.append(
                f'<text x="{x + 4}" y="{TOP - 6}">{html.escape(stage.name)}</text>'
            )
    return "".join(words) + "</g>"
