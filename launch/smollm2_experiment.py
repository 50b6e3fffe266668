"""A real language model learns to search: runs of configs/smollm2_hotpotqa.py.

A seed with and without its retrieved tokens masked, each by the command that a user
runs, which ends with evaluations by the final policy: greedy, sampled, and with an
index that finds nothing.
"""

import dataclasses
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "smollm2_hotpotqa.py"
NAME = "smollm2"
VARIANTS = {
    "masked": [],
    "unmasked": ["--stages.1.has-masked-observations", "False"],
}
BEFORE, AFTER = "before_rl", "after_rl"


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Model, questions and index of a run, as configs/README.md makes them."""

    model: str
    questions: str
    heldout: str
    index: str

    @property
    def arguments(self) -> list[str]:
        """The arguments of `jaxsearch train`.

        Raises:
          ValueError: if one is missing.
        """
        flags = {
            "--model.path": self.model,
            "--data.questions": self.questions,
            "--data.heldout": self.heldout,
            "--retrieval.index": self.index,
        }
        if not all(flags.values()):
            names = ", ".join(f"--{f.name}" for f in dataclasses.fields(self))
            raise ValueError(f"the experiment {NAME} needs {names}")
        return [word for pair in flags.items() for word in pair]


def run_folder(out: Path, seed: int, variant: str) -> Path:
    """The folder of one run."""
    return out / NAME / f"{seed}-{variant}"


def run(out: Path, seed: int, variant: str, inputs: Inputs) -> None:
    """Runs one variant, or the rest of it, in a process of its own."""
    from jaxsearch.bench.measurement import resident_peak_bytes

    folder = run_folder(out, seed, variant)
    words = [sys.executable, "-P", "-m", "jaxsearch", "train", str(CONFIG), "--json"]
    words += [*inputs.arguments, *VARIANTS[variant]]
    words += ["--seed", str(seed), "--out", str(folder)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
    # Of this process's only child; of the last part if the run was interrupted.
    peak = resident_peak_bytes(resource.RUSAGE_CHILDREN)
    (folder / "peak_bytes").write_text(str(peak))
    (folder / "done").touch()


def rows(
    out: Path, seeds: Sequence[int], heldout: str
) -> list[dict[str, float | str | int]]:
    """The results of the finished runs."""
    from jaxsearch.data.formats import read_questions

    metadata = {one.id: one.metadata for one in read_questions(heldout)}
    found = []
    for seed in seeds:
        for variant in VARIANTS:
            folder = run_folder(out, seed, variant)
            if (folder / "done").exists():
                found.append(
                    {"seed": seed, "variant": variant, **result(folder, metadata)}
                )
    return found


def result(folder: Path, metadata: Mapping[str, Any]) -> dict[str, float | str]:
    """The figures of one run, and `predictions.jsonl` before and after RL beside it."""
    from jaxsearch.evaluation.compare import compare
    from jaxsearch.monitor.rollout_log import heldout_rollouts_path, read_rollouts
    from jaxsearch.monitor.writers import read_evaluations

    found: dict[str, float | str] = {}
    files = []
    for name in (BEFORE, AFTER):
        rollouts = read_rollouts(heldout_rollouts_path(folder, name))
        files.append(write_predictions(folder / name, rollouts, metadata))
        for key, value in by_type(rollouts, metadata).items():
            found[f"{key} {name}"] = value
        # A reward of 0 is a bad format or a missing end; a wrong answer has 0.1.
        well_formed = [one.reward > 0.0 for one in rollouts]
        found[f"well formed {name}"] = statistics.mean(well_formed)
    [of_set] = compare(*files)["sets"].values()
    f1 = of_set["figures"]["research/f1"]
    low, high = f1["interval"]
    found |= {"f1 before": f1["first"], "f1 after": f1["second"]}
    found["difference"] = f"{f1['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
    others = {line["name"]: line for line in read_evaluations(folder)}
    found["f1 sampled"] = others["after_rl_sampled"]["f1"]
    found["f1 empty index"] = others["empty_index"]["f1"]
    return found | costs(folder)


def write_predictions(
    folder: Path, rollouts: Sequence[Any], metadata: Mapping[str, Any]
) -> Path:
    """Writes held-out rollouts as `eval` does, for `jaxsearch eval compare`."""
    from jaxsearch.json_lines import replace_lines

    folder.mkdir(exist_ok=True)
    lines = [
        {
            "id": one.question_id,
            "question": one.question,
            "golden_answers": list(one.golden_answers),
            "prediction": one.prediction,
            "reward": one.reward,
            "policy_len": one.policy_len,
            "searches": [dataclasses.asdict(call) for call in one.tool_calls],
            "segments": [dataclasses.asdict(part) for part in one.segments],
            "metadata": metadata.get(one.question_id, {}),
        }
        for one in rollouts
    ]
    replace_lines(folder / "predictions.jsonl", lines)
    return folder / "predictions.jsonl"


def by_type(rollouts: Sequence[Any], metadata: Mapping[str, Any]) -> dict[str, float]:
    """F1 and searches of all questions and of each type."""
    from jaxsearch.rewards.answers import f1, normalise_research

    groups: dict[str, list[tuple[float, int]]] = {}
    for one in rollouts:
        figures = (
            f1(one.prediction or "", one.golden_answers, normalise_research),
            len(one.tool_calls),
        )
        kind = metadata.get(one.question_id, {}).get("type", "")
        for name in ("all", kind or "other"):
            groups.setdefault(name, []).append(figures)
    found = {}
    for name, figures in sorted(groups.items()):
        scores, searches = zip(*figures, strict=True)
        found[f"f1 of {name}"] = statistics.mean(scores)
        found[f"searches of {name}"] = statistics.mean(searches)
    return found


def costs(folder: Path) -> dict[str, float]:
    """Drift over the RL stage, time per step, and peak memory."""
    from jaxsearch.monitor.writers import read_metrics

    lines = read_metrics(folder / "metrics.jsonl")
    drift = [x["logprob_drift/mean"] for x in lines if "logprob_drift/mean" in x]
    seconds = [
        sum(value for name, value in x.items() if name.startswith("time/"))
        for x in lines
        if "logprob_drift/mean" in x
    ]
    return {
        "mean drift": statistics.mean(drift),
        "seconds per RL step": statistics.median(seconds),
        "peak GB": int((folder / "peak_bytes").read_text()) / 1e9,
    }


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown, one column per run; "" without rows."""
    if not found:
        return ""
    heads = [f"seed {row['seed']}, {row['variant']}" for row in found]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    titles = dict.fromkeys(title for row in found for title in row)
    for title in titles:
        if title not in ("seed", "variant"):
            cells = [cell(row.get(title, "")) for row in found]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(value: float | str) -> str:
    """A value with three significant decimals, small ones in scientific notation."""
    if isinstance(value, str):
        return value
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"
