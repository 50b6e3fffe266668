"""The report's section on guards: rollouts excluded from updates, and alarms."""

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxsearch.monitor.guards import SIGNALS, likely_cause
from jaxsearch.report.series import number_text
from jaxsearch.report.tables import empty

# Labels of the counts, by metric. A guard that is off does not write a count.
COUNTS: Mapping[str, str] = {
    "groups_non_finite": "groups with log-probs that are not finite",
    "rollouts_overlong": "rollouts out of length",
    "rollouts_dropped": "rollouts in all, those with failed searches included",
    "without_advantage": "whole steps, because no rollout has an advantage (these are "
    "updated nevertheless if skips_without_advantage is False)",
}


class Episode(NamedTuple):
    """Consecutive steps at which an alarm was on."""

    alarm: str
    lines: list[Mapping[str, Any]]


def episodes(metrics: Sequence[Mapping[str, Any]]) -> list[Episode]:
    """Returns all alarms of a run, in the order in which they began."""
    found = [episode for name in SIGNALS for episode in _episodes_of(name, metrics)]
    return sorted(found, key=lambda episode: episode.lines[0]["step"])


def _episodes_of(name: str, metrics: Sequence[Mapping[str, Any]]) -> list[Episode]:
    def stage_and_alarm(line: Mapping[str, Any]) -> tuple[str, bool]:
        return line["stage"], line.get(f"alarm/{name}") == 1.0

    return [
        Episode(name, list(lines))
        for (_, is_on), lines in itertools.groupby(metrics, stage_and_alarm)
        if is_on
    ]


def guards_section(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Counts of excluded rollouts, and a table of alarms, for the guards that ran."""
    keys = {key for line in metrics for key in line}
    watched = [name for name in SIGNALS if f"alarm/{name}" in keys]
    counted = [key for key in COUNTS if key in keys]
    if not (watched or counted):
        return empty("No guard was on: the run has no RL step yet, or has no guards.")
    excluded = "".join(
        f"<li>{_count(key, metrics)}: {COUNTS[key]}</li>" for key in counted
    )
    return (
        '<p class="note">Excluded from updates:</p>'
        f"<ul>{excluded}</ul>{_alarms(watched, metrics)}"
    )


def _count(key: str, metrics: Sequence[Mapping[str, Any]]) -> str:
    numbers = [line[key] for line in metrics if key in line]
    num_steps = sum(number > 0 for number in numbers)
    return f"<b>{number_text(sum(numbers))}</b>, in {num_steps} of {len(numbers)} steps"


def _alarms(watched: Sequence[str], metrics: Sequence[Mapping[str, Any]]) -> str:
    if not watched:
        return '<p class="note">All alarms were off.</p>'
    note = f'<p class="note">Alarms that were on: {", ".join(watched)}.</p>'
    rows = "".join(_row(episode, metrics) for episode in episodes(metrics))
    if not rows:
        return note + empty("No alarm was raised.")
    return (
        f'{note}<div class="scroll"><table class="alarms"><thead><tr>'
        '<th scope="col">alarm</th><th scope="col">stage</th>'
        '<th scope="col">from step</th><th scope="col">steps</th>'
        '<th scope="col">values at that step</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(episode: Episode, metrics: Sequence[Mapping[str, Any]]) -> str:
    first = episode.lines[0]
    key, title = SIGNALS[episode.alarm]
    seen = f"{title}: {number_text(first.get(key, math.nan))}"
    before = [
        line[key]
        for line in metrics
        if line["stage"] == first["stage"] and line["step"] < first["step"]
        if key in line
    ]
    if episode.alarm == "signal":
        seen = f"{title}; likely cause: {likely_cause(first)}"
    elif before:
        seen += f" (highest in earlier steps: {number_text(max(before))})"
    seen += f"; reward {number_text(first.get('reward/mean', math.nan))}"
    return (
        f'<tr><th scope="row">{episode.alarm}</th>'
        f"<td>{html.escape(first['stage'])}</td><td>{first['step']}</td>"
        f"<td>{len(episode.lines)}</td><td>{html.escape(seen)}</td></tr>"
    )
