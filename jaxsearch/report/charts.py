"""Charts of a run, made from its metrics and its evaluations."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsearch.report.plots import NOT_PLOTTED_ALONE, PLOTS, Plot
from jaxsearch.report.series import MARKERS, Chart, Curve, Series, Stage

MAX_POINTS = 600  # per curve; more steps are averaged in bins


def stages_of(metrics: Sequence[Mapping[str, Any]]) -> list[Stage]:
    """Returns the stages in order, with their first and last measured steps."""
    steps: dict[str, list[int]] = {}
    for line in metrics:
        steps.setdefault(line["stage"], []).append(line["step"])
    return [Stage(name, min(them), max(them)) for name, them in steps.items()]


def charts(
    metrics: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> list[Chart]:
    """Makes all charts that have data. Every metric of the run is in one of them.

    A chart whose values are all 0 has no series.
    """
    lines = [_with_decode_time(line) for line in metrics]
    drawn = {key for plot in PLOTS for key in plot.lines.values()}
    others = [
        key
        for key in dict.fromkeys(key for line in lines for key in line)
        if key not in drawn and key not in NOT_PLOTTED_ALONE
    ]
    terms = [key for key in others if key.startswith("reward/")]
    terms_plot = Plot(
        title="Reward terms",
        unit="mean per step",
        lines={key.removeprefix("reward/"): key for key in terms},
    )
    plots = [PLOTS[0], terms_plot, *PLOTS[1:]]
    plots += [
        Plot(title=key, unit="", lines={key: key}) for key in others if key not in terms
    ]
    return [chart for plot in plots for chart in _charts(plot, lines, evaluations)]


def _with_decode_time(line: Mapping[str, Any]) -> dict[str, Any]:
    if "time/rollout" not in line:
        return dict(line)
    decode = line["time/rollout"] - line.get("time/search_wait", 0.0)
    return {**line, "time/decode": max(decode, 0.0)}


def _charts(
    plot: Plot,
    lines: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
) -> list[Chart]:
    stages = {stage.name: stage for stage in stages_of(lines)}
    measured = [
        name
        for name in stages
        if any(
            math.isfinite(line.get(key, math.nan))
            for line in lines
            if line["stage"] == name
            for key in plot.lines.values()
        )
    ]
    stage_sets = [[name] for name in measured] if plot.is_by_stage else [measured]
    found = []
    for names in stage_sets:
        series = _series(plot, lines, names)
        if plot.evaluation:
            series += _evaluation_series(plot.evaluation, evaluations)
        if series:
            has_name = plot.is_by_stage and len(measured) > 1
            found.append(
                Chart(
                    title=f"{plot.title}, {names[0]}" if has_name else plot.title,
                    unit=plot.unit,
                    series=tuple(one for one in series if not one.is_zero),
                    zeros=tuple(one.label for one in series if one.is_zero),
                    is_stacked=plot.is_stacked,
                    origin=stages[names[0]].first - 1 if names else 0,
                )
            )
    return found


def _series(
    plot: Plot, lines: Sequence[Mapping[str, Any]], stages: Sequence[str]
) -> list[Series]:
    series = []
    for colour, (label, key) in enumerate(plot.lines.items()):
        curves = tuple(
            _curve([line for line in lines if line["stage"] == stage], key)
            for stage in stages
        )
        if any(np.isfinite(curve.values).any() for curve in curves):
            series.append(Series(label=label, curves=curves, colour=colour % 8))
    return series


def _curve(lines: Sequence[Mapping[str, Any]], key: str) -> Curve:
    steps = np.array([line["step"] for line in lines], float)
    values = np.array([line.get(key, math.nan) for line in lines], float)
    width = math.ceil(len(steps) / MAX_POINTS)
    if width == 1:
        return Curve(steps, values)
    starts = np.arange(0, len(steps), width)
    is_finite = np.isfinite(values)
    counts = np.add.reduceat(is_finite.astype(float), starts)
    totals = np.add.reduceat(np.where(is_finite, values, 0.0), starts)
    means = np.where(counts > 0, totals / np.maximum(counts, 1.0), math.nan)
    sizes = np.add.reduceat(np.ones(len(steps)), starts)
    return Curve(np.add.reduceat(steps, starts) / sizes, means)


def _evaluation_series(
    key: str, evaluations: Sequence[Mapping[str, Any]]
) -> list[Series]:
    names = list(dict.fromkeys(line["name"] for line in evaluations))
    series = []
    for index, name in enumerate(names):
        lines = [line for line in evaluations if line["name"] == name]
        curve = _curve(lines, key)
        if np.isfinite(curve.values).any():
            series.append(
                Series(
                    label=name.replace("_", " "),
                    curves=(curve,),
                    colour=1 + index % 7,
                    marker=MARKERS[index % len(MARKERS)],
                )
            )
    return series
