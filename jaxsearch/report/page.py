"""The HTML page of the report: results, curves, tables, trajectories, config."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxsearch.report import charts, guards, svg, tables
from jaxsearch.report.assets import asset
from jaxsearch.trajectory import Status

STYLES = ("colours.css", "page.css", "trajectory.css")


def page(
    *,
    name: str,
    config: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    prompt: Mapping[str, Any],
    heldout: str,
    articles: Sequence[str],
    notes: Sequence[str],
) -> str:
    """Makes a self-contained HTML page that loads and sends nothing.

    Args:
      name: title of the page.
      config: content of config.json.
      metrics: lines of metrics.jsonl.
      evaluations: lines of eval.jsonl.
      prompt: content of prompt.json; empty if the run has none.
      heldout: the section on held-out questions, as HTML.
      articles: trajectories as HTML.
      notes: remarks about the choice of trajectories, as text.
    """
    sections = {
        "Results": tables.results_section(evaluations),
        "Curves": _curves_section(metrics, evaluations),
        "Hops": tables.hops_section(evaluations),
        "Endings": tables.endings_section(metrics),
        "Guards": guards.guards_section(metrics),
        "Prompt": _prompt_section(prompt),
        "Held-out": heldout,
        "Trajectories": _trajectories_section(articles, notes),
        "Configuration": _configuration_section(config),
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
<style>{"".join(map(asset, STYLES))}</style>
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
<script>{asset("page.js")}</script>
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


def _curves_section(
    metrics: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> str:
    found = charts.charts(metrics, evaluations)
    if not found:
        return tables.empty("No step measured yet: metrics.jsonl is empty or missing.")
    stages = charts.stages_of(metrics)
    text = (
        '<p class="note">Thin lines: every step. Thick lines: a centred mean over a '
        "fifteenth of the stage. Areas: that mean, stacked. Markers: evaluations. "
        "Dashed vertical lines: start of a stage; steps count from the start of a "
        "chart's first stage. Point at a curve for values, or focus it and use the "
        "arrow keys."
    )
    longest = max((stage.last - stage.first + 1 for stage in stages), default=0)
    if longest > charts.MAX_POINTS:
        width = math.ceil(longest / charts.MAX_POINTS)
        text += f" Each point of a long stage is a mean over up to {width} steps."
    if not any("reward/mean" in line for line in metrics):
        text += " This run has no RL step."
    if zero := [html.escape(chart.title) for chart in found if not chart.series]:
        text += f" Always 0, and not drawn: {', '.join(zero)}."
    drawn = "".join(svg.draw(chart, stages) for chart in found if chart.series)
    return f'{text}</p><div class="charts">{drawn}</div>'


def _prompt_section(prompt: Mapping[str, Any]) -> str:
    if not prompt:
        return tables.empty("No prompt: the run's folder has no prompt.json.")
    return (
        f'<p class="note">The {html.escape(prompt["form"])} prompt of a question, of '
        f"{prompt['num_tokens']} tokens; other questions differ in their text alone. "
        "Special tokens stand between ⟦ and ⟧.</p>"
        f'<pre class="prompt">{html.escape(prompt["prompt"])}</pre>'
    )


def _trajectories_section(articles: Sequence[str], notes: Sequence[str]) -> str:
    remarks = "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
    if not articles:
        return remarks + tables.empty("No trajectories: rollouts/ is empty or missing.")
    options = "".join(
        f'<option value="{status}">{status.replace("_", " ")}</option>'
        for status in Status
    )
    return f"""{remarks}
<div class="legend-text" aria-label="Legend">
<span class="policy">written by the policy, trained on</span>
<span class="masked">inserted by a tool, not trained on</span>
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


def _configuration_section(config: Mapping[str, Any]) -> str:
    text = html.escape(json.dumps(config, indent=2, ensure_ascii=False))
    return f"<details><summary>config.json</summary><pre>{text}</pre></details>"
