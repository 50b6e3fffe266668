"""Curves as inline SVG: lines, dots and stacked areas over the steps of a run."""

import dataclasses
import html
import json
import math
from collections.abc import Sequence

import numpy as np

from jaxsearch.report.series import (
    Chart,
    Series,
    Stage,
    number_text,
    smoothed,
    ticks,
)

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 22, 24
CHARACTER = 7  # width of one in a label, at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes:
    """What part of the plane a drawing shows."""

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


def draw(chart: Chart, stages: Sequence[Stage]) -> str:
    """A `<figure>`: title, axes with labelled ticks, stages, series, legend."""
    axes = _axes(chart)
    parts = [_grid(axes), _stage_marks(axes, stages)]
    if chart.is_stacked:
        parts.append(_areas(axes, chart.series))
    else:
        parts += [_line(axes, one) for one in chart.series if one.marker is None]
        parts += [_dots(axes, one) for one in chart.series if one.marker is not None]
    return (
        f'<figure class="chart"><figcaption>{html.escape(chart.title)} '
        f"<small>{html.escape(chart.unit)}</small></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" '
        f'aria-label="{html.escape(chart.title)} by step" '
        f'data-points="{html.escape(_hover_data(axes, chart))}">'
        f"{''.join(parts)}</svg>{_legend(chart)}</figure>"
    )


def _axes(chart: Chart) -> Axes:
    curves = [curve for series in chart.series for curve in series.curves]
    steps = np.concatenate([curve.steps for curve in curves])
    values = np.concatenate([curve.values for curve in curves])
    x_low, x_high = float(steps.min()), float(steps.max())
    if x_low == x_high:
        x_low, x_high = x_low - 1.0, x_high + 1.0
    if chart.is_stacked:
        tops = [stacked.max() for stacked in _stacks(chart.series)[-1]]
        return Axes(
            x_low=x_low, x_high=x_high, y_low=0.0, y_high=float(max(tops)) or 1.0
        )
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    if 0.0 <= low <= 0.5 * high:
        low = 0.0
    margin = 0.06 * (high - low) or max(0.1 * abs(high), 0.5)
    return Axes(
        x_low=x_low,
        x_high=x_high,
        y_low=low - margin if low else 0.0,
        y_high=high + margin,
    )


def _stacks(series: Sequence[Series]) -> list[list[np.ndarray]]:
    """Cumulative smoothed values: of each series, of each stage."""
    below = [np.zeros(len(curve.steps)) for curve in series[0].curves]
    stacks = []
    for one in series:
        below = [
            base + np.nan_to_num(smoothed(curve.values)[0])
            for base, curve in zip(below, one.curves, strict=True)
        ]
        stacks.append(below)
    return stacks


def _grid(axes: Axes) -> str:
    words = ['<g class="grid">']
    for value in ticks(axes.y_low, axes.y_high):
        y = axes.y(value)
        words.append(
            f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 7}" y="{y + 4}" text-anchor="end">'
            f"{number_text(value)}</text>"
        )
    for step in ticks(axes.x_low, axes.x_high, num=6):
        if step == int(step):
            words.append(
                f'<text x="{axes.x(step)}" y="{HEIGHT - BOTTOM + 17}" '
                f'text-anchor="middle">{int(step)}</text>'
            )
    words.append(
        f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
        f'<text class="name" x="{LEFT - 18}" y="{HEIGHT - BOTTOM + 17}" '
        'text-anchor="end">step</text></g>'
    )
    return "".join(words)


def _stage_marks(axes: Axes, stages: Sequence[Stage]) -> str:
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


def _line(axes: Axes, series: Series) -> str:
    words = [f'<g class="line c{series.colour}">']
    for steps, values in series.curves:
        means, window = smoothed(values)
        if window > 1:
            words.append(f'<path class="raw" d="{axes.path(steps, values)}"/>')
        if len(steps) == 1 and math.isfinite(values[0]):
            words.append(f'<circle cx="{axes.x(steps[0])}" cy="{axes.y(values[0])}"')
            words.append(' r="3"/>')
        words.append(f'<path d="{axes.path(steps, means)}"/>')
    return "".join(words) + "</g>"


def _dots(axes: Axes, series: Series) -> str:
    dots = [
        marker_shape(series.marker, axes.x(step), axes.y(value))
        for steps, values in series.curves
        for step, value in zip(steps, values, strict=True)
        if math.isfinite(value)
    ]
    return f'<g class="dot c{series.colour}">{"".join(dots)}</g>'


def _areas(axes: Axes, series: Sequence[Series]) -> str:
    words = []
    below = [np.zeros(len(curve.steps)) for curve in series[0].curves]
    for one, above in zip(series, _stacks(series), strict=True):
        for curve, low, high in zip(one.curves, below, above, strict=True):
            there = axes.path(curve.steps, high)
            back = axes.path(curve.steps[::-1], low[::-1]).replace("M", "L")
            words.append(f'<path class="area c{one.colour}" d="{there}{back}Z"/>')
        below = above
    return "".join(words)


def marker_shape(marker: str, x: float | int, y: float | int) -> str:
    """The SVG of one marker of `MARKERS`, centred at (x, y)."""
    shapes = {
        "circle": "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0",
        "diamond": "m0-5.5l5.5 5.5l-5.5 5.5l-5.5-5.5z",
        "square": "m-4 -4h8v8h-8z",
        "triangle": "m0-5l5 9h-10z",
        "plus": "m-1.8-5.2h3.6v3.4h3.4v3.6h-3.4v3.4h-3.6v-3.4h-3.4v-3.6h3.4z",
        "wedge": "m0 5l5-9h-10z",
    }
    return f'<path d="M{x} {y}{shapes[marker]}"/>'


def _legend(chart: Chart) -> str:
    is_told_by_title = len(chart.series) == 1 and chart.series[0].marker is None
    if is_told_by_title and not chart.is_stacked:
        return ""
    words = ['<ul class="legend">']
    for one in chart.series:
        if one.marker is not None:
            key = f'<g class="dot c{one.colour}">{marker_shape(one.marker, 8, 7)}</g>'
        elif chart.is_stacked:
            key = f'<path class="area c{one.colour}" d="M2 2h12v10h-12z"/>'
        else:
            key = f'<g class="line c{one.colour}"><path d="M0 7h16"/></g>'
        words.append(
            f'<li><svg viewBox="0 0 16 14" width="16" height="14" aria-hidden="true">'
            f"{key}</svg>{html.escape(one.label)}</li>"
        )
    return "".join(words) + "</ul>"


def _hover_data(axes: Axes, chart: Chart) -> str:
    """Values by step for the page's script: JSON, gaps as null."""
    rows: dict[float, list[float | None]] = {}
    for index, series in enumerate(chart.series):
        for curve in series.curves:
            for step, value in zip(curve.steps, curve.values, strict=True):
                row = rows.setdefault(float(step), [None] * len(chart.series))
                if math.isfinite(value):
                    row[index] = float(f"{value:.4g}")
    steps = sorted(rows)
    return json.dumps(
        {
            "labels": [series.label for series in chart.series],
            "steps": [round(step, 1) for step in steps],
            "x": [axes.x(step) for step in steps],
            "rows": [rows[step] for step in steps],
        },
        separators=(",", ":"),
    )
