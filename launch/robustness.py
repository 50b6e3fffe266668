"""Whether a result survives another seed and another rounding.

A run's last bits depend on the machine. XLA's option `--xla_cpu_max_isa=AVX` disables
fused multiply-add, so that a run rounds as another machine would; "nudged" multiplies
every initial weight by 1 + 1e-6 n, with n normal.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
AVX = "--xla_cpu_max_isa=AVX"
PERTURBATIONS = ("default", "avx", "nudged")
KINDS = ("1", "2", "3", "comparison")


@dataclasses.dataclass(frozen=True)
class Robustness:
    """A config that is run with several seeds and roundings."""

    config: str
    num_seeds: int


ROBUSTNESS = {
    "robustness": Robustness("quickstart", 8),
    "robustness_r1_searcher": Robustness("quickstart_r1_searcher", 4),
}


def run_folder(out: Path, name: str, seed: int, perturbation: str) -> Path:
    """The folder of one run."""
    return out / name / f"{seed}-{perturbation}"


def run(out: Path, name: str, seed: int, perturbation: str) -> None:
    """Runs the command that a user runs, or the rest of it, in a process of its own."""
    folder = run_folder(out, name, seed, perturbation)
    environment = dict(os.environ)
    if perturbation == "avx":
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} {AVX}".strip()
    arguments = ["--seed", str(seed), "--out", str(folder)]
    if perturbation == "nudged":
        arguments += ["--model.path", str(nudged(out, name, seed))]
    config = str(CONFIGS / f"{ROBUSTNESS[name].config}.py")
    program = [sys.executable, "-P", "-m", "jaxsearch"]
    command = [*program, "train", config, *arguments, "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    (folder / "done").touch()


def nudged(out: Path, name: str, seed: int) -> Path:
    """A copy of the config's policy with perturbed weights.

    Raises:
      ValueError: if the config starts from random weights.
    """
    import runpy
    import shutil

    import numpy as np
    from safetensors.numpy import load_file, save_file

    from jaxsearch.models.hub import WEIGHTS, local_folder

    config = runpy.run_path(str(CONFIGS / f"{ROBUSTNESS[name].config}.py"))["config"]
    if not config.model.path:
        raise ValueError(
            f"{ROBUSTNESS[name].config} starts from random weights: another seed "
            "already changes all of them; leave out the perturbation 'nudged'"
        )
    source = local_folder(config.model.path, "model", WEIGHTS)
    folder = out / name / f"{seed}-policy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    rng = np.random.default_rng(seed)
    weights = {}
    for key, value in sorted(load_file(folder / "model.safetensors").items()):
        wide = value.astype(np.float32)
        factor = 1 + 1e-6 * rng.standard_normal(wide.shape)
        weights[key] = (wide * factor).astype(np.float32)
    save_file(weights, folder / "model.safetensors")
    return folder


def rows(
    out: Path, name: str, seeds: Sequence[int], perturbations: Sequence[str]
) -> list[dict[str, Any]]:
    """The results of the finished runs, the worst first."""
    found = []
    for seed in seeds:
        for perturbation in perturbations:
            folder = run_folder(out, name, seed, perturbation)
            if (folder / "done").exists():
                found.append({"seed": seed, "rounding": perturbation, **result(folder)})
    return sorted(found, key=lambda row: row["em"])


def result(folder: Path) -> dict[str, Any]:
    """The evaluations of a run before and after RL."""
    lines = [json.loads(x) for x in (folder / "eval.jsonl").read_text().splitlines()]
    by_name = {line["name"]: line for line in lines}
    after = by_name["after_rl"]
    return {
        "before": by_name["before_rl"]["em"],
        "em": after["em"],
        **{kind: after["by_hops"][kind]["em"] for kind in KINDS},
        "sampled": by_name["after_rl_sampled"]["em"],
        "empty": by_name["empty_index"]["em"],
        "searches": after["searches_per_question"],
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown, and their medians; "" without rows."""
    if not found:
        return ""
    titles = list(found[0])
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in found:
        cells = [f"{x:.3f}" if isinstance(x, float) else str(x) for x in row.values()]
        lines.append(f"| {' | '.join(cells)} |")
    medians = [f"{statistics.median(r[t] for r in found):.3f}" for t in titles[2:]]
    lines.append(f"| median | of {len(found)} | {' | '.join(medians)} |")
    return "\n".join(lines)
