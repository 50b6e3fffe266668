"""A run's results in a few lines: exact match before and after RL, by hops."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsearch.monitor.writers import read_evaluations

_ROW = "{:<14} {:>5}  {:>9}  {:>8}  {:>8}"


def before_and_after(run_folder: Path) -> list[str]:
    """The lines of a table of the run's evaluations; [] if it has none after RL."""
    found = {line["name"]: line for line in read_evaluations(run_folder)}
    if "after_rl" not in found:
        return []
    before, after = found.get("before_rl", {}), found["after_rl"]
    lines = [_ROW.format("held out", "n", "EM before", "EM after", "searches")]
    for hops, group in after.get("by_hops", {}).items():
        earlier = before.get("by_hops", {}).get(hops, {})
        title = {"1": "1 hop"}.get(hops, f"{hops} hops" if hops.isdecimal() else hops)
        lines.append(_line(title, earlier, group, group.get("searches")))
    lines.append(_line("all", before, after, after.get("searches_per_question")))
    others = {"sampled": "after_rl_sampled", "empty index": "empty_index"}
    for title, name in others.items():
        if name in found:
            other = found[name]
            lines.append(_line(title, {}, other, other.get("searches_per_question")))
    return lines


def _line(
    title: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    searches: float | None,
) -> str:
    em_before = f"{before['em']:.3f}" if before else ""
    shown = "" if searches is None else f"{searches:.2f}"
    return _ROW.format(title, after["n"], em_before, f"{after['em']:.3f}", shown)
