"""The results of an evaluation as a table for the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxsearch.evaluation.figures import GROUP_KINDS, METRICS

_ROW = "{:<28} {:>6}  {:<20}  {:<20}  {:<20}  {:>8}  {:>6}"
_TITLES = ("n", "EM", "F1", "cover-EM", "searches", "tokens")
_GROUP_TITLES = {"hops": "{} hops", "type": "{}", "searches": "{} searches"}
_CELLS = {
    "right_read": "right, read",
    "right_not_read": "right, not read",
    "wrong_read": "wrong, read",
    "wrong_not_read": "wrong, not read",
}
Results = Mapping[str, Any]
Intervals = Mapping[str, Sequence[float]]


def result_lines(results: Results) -> list[str]:
    """The lines of the table; numbers in brackets are 95% intervals."""
    lines = [_ROW.format("", *_TITLES).rstrip()]
    for name, one in results["sets"].items():
        lines += _set_lines(name, one)
    if len(results["sets"]) > 1:
        title = f"mean of {len(results['sets'])} sets"
        lines.append(_row(title, results, results["intervals"]))
    for name, one in results["sets"].items():
        lines += ["", *_details(name, one)]
    return lines


def _set_lines(name: str, one: Results) -> list[str]:
    """The row of a set, and those of its groups."""
    lines = [_row(name, one, one["intervals"])]
    for kind in GROUP_KINDS:
        groups = one.get(f"by_{kind}", {})
        for group, values in groups.items():
            of_group = {
                metric: one["intervals"][f"{kind}/{group}/{metric}"]
                for metric in METRICS
                if f"{kind}/{group}/{metric}" in one["intervals"]
            }
            lines.append(_row(f"  {_title(kind, group)}", values, of_group))
    return lines


def _title(kind: str, group: str) -> str:
    if kind in ("hops", "searches") and group == "1":
        return "1 hop" if kind == "hops" else "1 search"
    if kind == "hops" and not group.isdecimal():
        return group
    return _GROUP_TITLES[kind].format(group)


def _row(title: str, values: Results, bounds: Intervals) -> str:
    cells = [_interval(values.get(name), bounds.get(name)) for name in METRICS]
    searches = values.get("searches_per_question", values.get("searches"))
    tokens = values.get("tokens_per_question")
    return _ROW.format(
        title,
        values["n"],
        *cells,
        "" if searches is None else f"{searches:.2f}",
        "" if tokens is None else f"{tokens:.0f}",
    ).rstrip()


def _interval(value: float | None, bounds: Sequence[float] | None) -> str:
    if value is None:
        return ""
    if bounds is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]"


def _details(name: str, one: Results) -> list[str]:
    """Lines on other normalisers, samples, failures and retrieval of a set."""
    bounds = one["intervals"]
    lines = [name]
    if one.get("sample_seed") is not None:
        chosen = f"{one['n']:,} of {one['of']:,} questions, seed {one['sample_seed']}"
        lines = [f"{name}: {chosen}"]
    for system, metrics in one["normalisers"].items():
        cells = [
            _interval(metrics[metric], bounds[f"{system}/{metric}"])
            for metric in METRICS
        ]
        title = f"  normaliser of {system}"
        lines.append(_ROW.format(title, "", *cells, "", "").rstrip())
    sampled = {k: v for k, v in one.items() if k.startswith("pass@")}
    if "majority_em" in one:
        sampled["majority_em"] = one["majority_em"]
    for key, value in sampled.items():
        title = "majority, EM" if key == "majority_em" else f"{key}, EM"
        cell = _interval(value, bounds[key])
        lines.append(_ROW.format(f"  {title}", "", cell, *("",) * 4).rstrip())
    if "num_with_fewer_samples" in one:
        lines.append(
            f"  fewer answers than others: {one['num_with_fewer_samples']} questions "
            "(pass@k is of those with k or more)"
        )
    if one.get("num_search_failed"):
        lines.append(f"  a search failed for {one['num_search_failed']}")
    if one.get("out_of_length"):
        lines.append(f"  over length: {one['out_of_length']:.3f}")
    return lines + _retrieval_lines(one.get("retrieval", {}), bounds)


def _retrieval_lines(retrieval: Results, bounds: Intervals) -> list[str]:
    lines = []
    for column, what, number in (
        ("answer_read", "a golden answer was read", "num_with_answer"),
        ("titles_read", "all supporting pages were read", "num_with_titles"),
    ):
        if column in retrieval:
            cell = _interval(retrieval[column], bounds[column])
            lines.append(f"  {what}: {cell} of {retrieval[number]} answers")
    if "right_read" in retrieval:
        cells = [f"{title} {retrieval[key]:.3f}" for key, title in _CELLS.items()]
        lines.append(f"  {'; '.join(cells)}")
    return lines
