"""Draws charts as inline SVG: lines, markers and stacked areas by step."""

import html
import json
import math
from collections.abc import Sequence

import numpy as np

from jaxsearch.report.series import Chart, Series, Stage, smoothed
from jaxsearch.report.svg_axes import (
    HEIGHT,
    WIDTH,
    Axes,
    axes_of,
    grid,
    stacks,
    stage_marks,
)


def draw(chart: Chart, stages: Sequence[Stage]) -> str:
    """Draws a `<figure>` with title, axes, stage marks, series and legend."""
    axes = axes_of(chart)
    parts = [grid(axes), stage_marks(axes, stages)]
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
    for one, above in zip(series, stacks(series), strict=True):
        for curve, low, high in zip(one.curves, below, above, strict=True):
            there = axes.path(curve.steps, high)
            back = axes.path(curve.steps[::-1], low[::-1]).replace("M", "L")
            words.append(f'<path class="area c{one.colour}" d="{there}{back}Z"/>')
        below = above
    return "".join(words)


def marker_shape(marker: str, x: float | int, y: float | int) -> str:
    """Draws a marker of `MARKERS`, centred at (x, y)."""
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
    title_suffices = len(chart.series) == 1 and chart.series[0].marker is None
    if title_suffices and not chart.is_stacked and not chart.zeros:
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
    if chart.zeros:
        words.append(f"<li>always 0: {html.escape(', '.join(chart.zeros))}</li>")
    return "".join(words) + "</ul>"


def _hover_data(axes: Axes, chart: Chart) -> str:
    """Values by step as JSON for the page's script; gaps are null."""
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
            "steps": [round(step - axes.origin, 1) for step in steps],
            "origin": axes.origin,
            "x": [axes.x(step) for step in steps],
            "rows": [rows[step] for step in steps],
        },
        separators=(",", ":"),
    )
