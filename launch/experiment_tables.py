"""The tables of launch/experiments.py: medians over seeds, as Markdown."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Title of an experiment -> the variants that it compares.
EXPERIMENTS = {
    "1. R1-Searcher's stage 1": ("stages_1_and_2", "stage_2_alone"),
    "2. Algorithms": ("grpo", "reinforce_pp_baseline", "rloo"),
    "3. Retrieved tokens masked, and not": ("grpo", "unmasked"),
    "4. Transfer": ("grpo", "two_hop"),
}
TRANSFERRED = EXPERIMENTS["4. Transfer"]
SHOWN_STEPS = (0, 10, 20, 30, 40, 60, 80, 100, 120, 150)


def results(out: Path, seeds: list[int], names: list[str]) -> dict[str, Any]:
    """The evaluations of every finished run, by variant and seed, in order."""
    from jaxsearch.monitor.writers import read_metrics

    found: dict[str, Any] = {}
    for name in names:
        for seed in seeds:
            run = out / f"{name}-{seed}"
            if not (run / "done").exists():
                continue
            one = {"evaluations": read_metrics(run / "eval.jsonl")}
            large = run / "large_world" / "eval" / "results.json"
            if large.exists():
                one["large_world"] = json.loads(large.read_text())
            found.setdefault(name, {})[str(seed)] = one
    return found


def tables(found: dict[str, Any]) -> str:
    """All experiments with at least one finished run."""
    lines = []
    for title, names in EXPERIMENTS.items():
        names = [name for name in names if name in found]
        if not names:
            continue
        lines += ["", f"**{title}**", ""]
        lines += curve(found, names)
        lines += ["", *final_results(found, names)]
        if EXPERIMENTS[title] is TRANSFERRED:
            lines += ["", *transfer_results(found, names)]
    return "\n".join(lines)


def curve(found: dict[str, Any], names: list[str]) -> list[str]:
    """Held-out EM (greedy) by RL step, with searches per question in brackets."""
    rows = [
        f"| RL step | {' | '.join(map(str, SHOWN_STEPS))} |",
        "|---" * (len(SHOWN_STEPS) + 1) + "|",
    ]
    for name in names:
        by_step: dict[int, list[tuple[float, float]]] = {}
        for run in found[name].values():
            for e in run["evaluations"]:
                if e["name"] in ("before_rl", "heldout", "after_rl"):
                    pair = (e["em"], e["searches_per_question"])
                    by_step.setdefault(e["step"], []).append(pair)
        cells = [curve_cell(by_step.get(step, [])) for step in SHOWN_STEPS]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def curve_cell(pairs: Sequence[tuple[float, float]]) -> str:
    """Median EM and searches of (EM, searches) pairs, one per seed."""
    if not pairs:
        return ""
    ems, searches = zip(*pairs, strict=True)
    return f"{median(ems)} ({statistics.median(searches):.1f})"


def final_results(found: dict[str, Any], names: list[str]) -> list[str]:
    """EM after training: of each seed, and medians."""
    rows = ["| variant | EM, each seed | median | sampled | empty index |"]
    rows += ["|---|---|---|---|---|"]
    for name in names:
        runs = list(found[name].values())
        greedy = [final(run, "after_rl") for run in runs]
        columns = [" ".join(f"{em:.3f}" for em in greedy), median(greedy)]
        for kind in ("after_rl_sampled", "empty_index"):
            columns.append(median([final(run, kind) for run in runs]))
        rows.append(f"| {name} | {' | '.join(columns)} |")
    return rows


def transfer_results(found: dict[str, Any], names: list[str]) -> list[str]:
    """EM after training by kind of question, and on the world of twice the passages."""
    kinds = ("1", "2", "3", "comparison")
    rows = [f"| trained on | {' | '.join(kinds)} | twice the passages |"]
    rows += ["|---" * (len(kinds) + 2) + "|"]
    for name in names:
        runs = list(found[name].values())
        by_hops = [final(run, "after_rl", "by_hops") for run in runs]
        cells = [median([hops[kind]["em"] for hops in by_hops]) for kind in kinds]
        large = [run["large_world"]["em"] for run in runs if "large_world" in run]
        rows.append(f"| {name} | {' | '.join(cells)} | {median(large)} |")
    return rows


def final(run: dict[str, Any], name: str, field: str = "em") -> Any:
    """A field of the evaluation with that name."""
    return next(e[field] for e in run["evaluations"] if e["name"] == name)


def median(values: Sequence[float]) -> str:
    """Median with three digits; "-" if there are no values."""
    return f"{statistics.median(values):.3f}" if values else "-"
