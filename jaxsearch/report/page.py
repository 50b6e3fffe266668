"""The report's page: headline, curves, tables, trajectories, configuration."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jaxsearch.report import charts, guards, svg, tables
from jaxsearch.trajectory import Status

ASSETS = resources.files("jaxsearch.report")


def page(
    *,
    name: str,
    config: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    articles: Sequence[str],
    notes: Sequence[str],
) -> str:
    """One self-contained HTML page: it loads nothing and sends nothing.

    Args:
      articles: trajectories as HTML.
      notes: what the reader of the trajectories must know, as text.
    """
    sections = {
        "Results": tables.results(evaluations),
        "Curves": _curves(metrics, evaluations),
        "Hops": tables.hops(evaluations),
        "Endings": tables.endings(metrics),
        "Guards": guards.section(metrics),
        "Trajectories": _trajectories(articles, notes),
        "Configuration": _configuration(config),
    }
    links = "".join(f'<a href="#{key.lower()}">{key}</a>' for key in sections)
    body = "".join(
        f'<section id="{key.lower()}"><h2>{key}</h2>{text}</section>'
        for key, text in sections.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(name)} · jaxsearch</title>
<link rel="icon" href="data:,">
<style>{(ASSETS / "page.css").read_text()}</style>
</head>
<body>
<header>
<div><p class="brand">jaxsearch · run</p><h1>{html.escape(name)}</h1></div>
<p class="facts">{_facts(metrics)}</p>
<button id="theme" type="button" hidden>Dark</button>
</header>
<nav aria-label="Sections">{links}</nav>
<main>
{_alarm(metrics)}{body}
</main>
<script>{(ASSETS / "page.js").read_text()}</script>
</body>
</html>
"""


def _facts(metrics: Sequence[Mapping[str, Any]]) -> str:
    if not metrics:
        return "no step measured yet"
    facts = [
        f"<b>{stage.last - stage.first + 1}</b> steps of {html.escape(stage.name)}"
        for stage in charts.stages_of(metrics)
    ]
    seconds = sum(
        value
        for line in metrics
        for key, value in line.items()
        if key.startswith("time/") and key != "time/search_wait"
    )
    if math.isfinite(seconds) and seconds:
        facts.append(f"<b>{_duration(seconds)}</b> of steps")
    return " · ".join(facts)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return (
        f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
    )


def _alarm(metrics: Sequence[Mapping[str, Any]]) -> str:
    steps = [
        str(line["step"])
        for line in metrics
        if not all(math.isfinite(line.get(key, 0.0)) for key in ("loss", "grad_norm"))
    ]
    if not steps:
        return ""
    shown = ", ".join(steps[:12]) + (" …" if len(steps) > 12 else "")
    return (
        '<p class="alarm" role="alert">The loss or its gradient was not finite at '
        f"{len(steps)} of {len(metrics)} steps: {shown}. Curves have gaps there.</p>"
    )


def _curves(
    metrics: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> str:
    found = charts.charts(metrics, evaluations)
    if not found:
        return tables.empty("No step measured yet: metrics.jsonl is empty or missing.")
    stages = charts.stages_of(metrics)
    text = (
        '<p class="note">Thin lines: every step. Thick lines: a centred mean over a '
        "fifteenth of the stage. Areas: that mean, stacked. Markers: evaluations. "
        "Dashed verticals: a stage begins. Point at a curve, or focus it and use the "
        "arrow keys, for values."
    )
    longest = max((stage.last - stage.first + 1 for stage in stages), default=0)
    if longest > charts.MAX_POINTS:
        width = math.ceil(longest / charts.MAX_POINTS)
        text += f" Long stages are averaged over up to {width} steps a point."
    if not any("reward/mean" in line for line in metrics):
        text += " This run has no RL step."
    drawn = "".join(svg.draw(chart, stages) for chart in found)
    return f'{text}</p><div class="charts">{drawn}</div>'


def _trajectories(articles: Sequence[str], notes: Sequence[str]) -> str:
    said = "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
    if not articles:
        return said + tables.empty("No trajectory to read: rollouts/ has none.")
    options = "".join(
        f'<option value="{status}">{status.replace("_", " ")}</option>'
        for status in Status
    )
    return f"""{said}
<div class="legend-text" aria-label="Legend">
<span class="policy">written by the policy, trained on</span>
<span class="masked">put there by the search, not trained on</span>
<code class="tag">&lt;tag&gt;</code>
</div>
<form id="filters" hidden>
<label>Step <select name="step"></select></label>
<label>Ended <select name="status"><option value="">any way</option>{options}</select>
</label>
<label>Reward from <input name="low" type="number" step="any"></label>
<label>to <input name="high" type="number" step="any"></label>
<label>Sample <input name="sample" type="number" min="0"></label>
<label class="wide">Question has <input name="text" type="search"></label>
<label>Order <select name="order"><option value="stream">as asked</option>
<option value="best">best first</option><option value="worst">worst first</option>
</select></label>
</form>
<div id="browser"><div id="list" hidden>
<p id="count" aria-live="polite"></p><ul></ul></div>
<div id="reader">{"".join(articles)}</div></div>"""


def _configuration(config: Mapping[str, Any]) -> str:
    text = html.escape(json.dumps(config, indent=2, ensure_ascii=False))
    return f"<details><summary>config.json</summary><pre>{text}</pre></details>"
