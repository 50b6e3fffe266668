"""Sections of the report with tables: results, hops and endings."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxsearch.trajectory import Status

HEADLINE = {
    "before_rl": "Before RL",
    "after_rl": "After RL",
    "after_rl_sampled": "After RL, sampled",
    "empty_index": "After RL, empty index",
}
# Key of the evaluation and format, by column.
COLUMNS = {
    "step": ("step", "d"),
    "n": ("n", "d"),
    "exact match": ("em", ".3f"),
    "F1": ("f1", ".3f"),
    "cover match": ("cover_em", ".3f"),
    "searches per question": ("searches_per_question", ".2f"),
    "with a failed search": ("num_search_failed", "d"),
    "temperature": ("temperature", ".1f"),
}


def empty(text: str) -> str:
    """A box with a message where content is missing."""
    return f'<p class="empty">{html.escape(text)}</p>'


def _latest(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Returns the last evaluation of each name, those of HEADLINE first."""
    last = {line["name"]: line for line in evaluations}
    names = [*(name for name in HEADLINE if name in last)]
    names += [name for name in last if name not in HEADLINE]
    return {name: last[name] for name in names}


def _interval(share: float | int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share observed in n questions."""
    z = 1.96
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = (
        z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    )
    return max(centre - half, 0.0), min(centre + half, 1.0)


def results_section(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Cards of the headline evaluations, and a table of all latest evaluations."""
    if not evaluations:
        return empty("No evaluation yet: eval.jsonl is empty or missing.")
    latest = _latest(evaluations)
    cards = "".join(
        _card(HEADLINE[name], line) for name, line in latest.items() if name in HEADLINE
    )
    head = "".join(f'<th scope="col">{title}</th>' for title in COLUMNS)
    rows = "".join(
        f'<tr><th scope="row">{_title(name)}</th>'
        + "".join(
            f"<td>{_number(line.get(key), form)}</td>" for key, form in COLUMNS.values()
        )
        + "</tr>"
        for name, line in latest.items()
    )
    table = (
        '<div class="scroll"><table><thead><tr><th scope="col">latest evaluation</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return f'<div class="cards">{cards}</div>{table}'


def _card(title: str, line: Mapping[str, Any]) -> str:
    em, n = line["em"], line["n"]
    low, high = _interval(em, n)
    searches = _number(line.get("searches_per_question"), ".2f")
    return (
        f'<div class="card"><h3>{title}</h3><p class="figure">{em:.3f}</p>'
        f'<div class="bar" aria-hidden="true"><i style="width:{100 * em:.1f}%"></i>'
        f'<u style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></u></div>'
        f"<p>exact match, {n} questions<br>95 % interval {low:.3f} – {high:.3f}<br>"
        f"{searches} searches per question</p></div>"
    )


def _title(name: str) -> str:
    return html.escape(HEADLINE.get(name, name.replace("_", " ")))


def _number(value: float | int | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def hops_section(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Exact match by number of hops, with one column per evaluation."""
    latest = {k: v for k, v in _latest(evaluations).items() if v.get("by_hops")}
    if not latest:
        return empty("No evaluation has results by hops.")
    # Numbers before names ("comparison"); "10" sorts after "9".
    counts = sorted(
        {hop for line in latest.values() for hop in line["by_hops"]},
        key=lambda hop: (not hop.isdecimal(), hop.zfill(3)),
    )
    head = "".join(f'<th scope="col">{_title(name)}</th>' for name in latest)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(hop)}</th>'
        + "".join(_hop_cell(line["by_hops"].get(hop)) for line in latest.values())
        + "</tr>"
        for hop in counts
    )
    return (
        '<p class="note">Exact match of the latest evaluations, by the number of '
        'facts in a question\'s chain, or its kind.</p><div class="scroll">'
        '<table class="bars">'
        f'<thead><tr><th scope="col">hops</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _hop_cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "<td>–</td>"
    return (
        f'<td><span class="value">{cell["em"]:.3f}</span><small>n {cell["n"]}</small>'
        f"{_bar(cell['em'])}</td>"
    )


def _bar(share: float | int) -> str:
    return (
        f'<div class="bar" aria-hidden="true"><i style="width:{100 * share:.1f}%"></i>'
        "</div>"
    )


def endings_section(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Shares of statuses in the first and the last tenth of the RL steps."""
    lines = [line for line in metrics if f"status/{Status.ANSWERED}" in line]
    if not lines:
        return empty("No rollouts measured: this run has no RL step yet.")
    num = max(1, len(lines) // 10)
    rows = ""
    for status in Status:
        values = [line.get(f"status/{status}", 0.0) for line in lines]
        shares = sum(values[:num]) / num, sum(values[-num:]) / num
        cells = "".join(
            f'<td><span class="value">{share:.3f}</span>{_bar(share)}</td>'
            for share in shares
        )
        rows += f'<tr><th scope="row">{status.replace("_", " ")}</th>{cells}</tr>'
    return (
        '<p class="note">How trajectories ended, as shares.</p><div class="scroll">'
        '<table class="bars"><thead><tr><th scope="col">status</th>'
        f'<th scope="col">{_num_steps("first", num)}</th>'
        f'<th scope="col">{_num_steps("last", num)}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _num_steps(which: str, num: int) -> str:
    return f"{which} step" if num == 1 else f"{which} {num} steps"
