"""A comparison of two evaluations as a table for the console."""

from collections.abc import Mapping
from typing import Any

_ROW = "{:<22} {:>8} {:>8} {:>11}  {:<18} {:>6} {:>6} {:>9}"
_TITLES = ("first", "second", "difference", "95% interval", "won", "lost", "p")


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    """A comparison as a table for the console."""
    lines = [f"first   {found['first']}", f"second  {found['second']}"]
    for name, one in found["sets"].items():
        others = (one["num_only_in_first"], one["num_only_in_second"])
        lines += ["", f"{name or 'questions'}: {one['n']} in both"]
        if any(others):
            lines[-1] += f", {others[0]} only in the first, {others[1]} in the second"
        lines += _figure_lines(one["figures"])
    if "mean_over_sets" in found:
        lines += ["", f"mean of {len(found['sets'])} sets"]
        lines += _figure_lines(found["mean_over_sets"])
    return lines


def _figure_lines(figures: Mapping[str, Any]) -> list[str]:
    lines = [_ROW.format("", *_TITLES).rstrip()]
    for name, one in figures.items():
        low, high = one["interval"]
        counted = ("", "", "")
        if "p" in one:
            counted = (one["won"], one["lost"], f"{one['p']:.2g}")
        lines.append(
            _ROW.format(
                name,
                f"{one['first']:.3f}",
                f"{one['second']:.3f}",
                f"{one['difference']:+.3f}",
                f"[{low:+.3f}, {high:+.3f}]",
                *counted,
            ).rstrip()
        )
    return lines
