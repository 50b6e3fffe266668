"""Compares two runs of one config, for example in one process and in several.

    JAXSEARCH_CPU_DEVICES=2 bash launch/local_processes.sh 1 CONFIG --out runs/one
    bash launch/local_processes.sh 2 CONFIG --out runs/two
    python launch/compare_runs.py runs/one runs/two

Both runs above have two devices. With a different number of devices, sums are in a
different order, and a long warm-up amplifies the rounding until some rollouts differ.

Prints how many rollouts of the first RL step are equal, and the largest difference of
each metric over the first five RL steps (times excluded). Exits with status 1 if
rollouts of the first step differ, or if a metric differs by more than a thousandth of
its value (near zero: by more than 1e-5), or is missing in one of the runs. Of runs of
unequal length only the steps that both have are compared. With more than two devices,
several processes may also sum in a different order. Status 2 is wrong usage, or a
folder without a run that can be compared.
"""

import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.monitor.writers import read_metrics

RELATIVE, ABSOLUTE = 1e-3, 1e-5
NUM_STEPS = 5
NOT_COMPARED = ("time/", "tokens_per_s/", "logprob_drift/")


def sampled(run: Path) -> list[tuple]:
    """Prompt index, sample index and segments of the rollouts of the first RL step.

    Raises:
      ValueError: if the run has none, or they cannot be read.
    """
    files = rollout_files(run)
    if not files:
        raise ValueError(f"{run} has no rollouts: set --logging.rollouts-every 1")
    return [
        (r.prompt_index, r.sample_index, r.segments)
        for r in read_rollouts(files[min(files)])
    ]


def rl_steps(run: Path) -> list[dict]:
    """Metrics of the first RL steps."""
    lines = read_metrics(run / "metrics.jsonl")
    return [line for line in lines if "reward/mean" in line][:NUM_STEPS]


def count(steps: list) -> str:
    """The number of steps, in words."""
    return f"{len(steps)} RL step{'s' * (len(steps) != 1)}"


def compared(key: str, steps: list[tuple[dict, dict]]) -> tuple[str, bool]:
    """The line to print for a metric, and whether both runs agree on it."""
    pairs = [(a[key], b[key], a["step"]) for a, b in steps if key in a and key in b]
    if any(isinstance(value, str) for pair in pairs for value in pair):
        return "", True
    alone = sum((key in a) != (key in b) for a, b in steps)
    if alone:
        return f"only in one of the runs, at {alone} of {len(steps)} steps", False
    if not pairs:
        return "", True
    # Both may be NaN, such as the mean of no values.
    differences = [
        0.0 if a == b or (math.isnan(a) and math.isnan(b)) else abs(a - b)
        for a, b, _ in pairs
    ]
    worst = max(range(len(pairs)), key=differences.__getitem__)
    is_near = all(
        d <= max(ABSOLUTE, RELATIVE * abs(a))
        for d, (a, _, _) in zip(differences, pairs, strict=True)
    )
    return f"{differences[worst]:.3g} at step {pairs[worst][2]}", is_near


def main(first: Path, second: Path) -> int:
    ours, theirs = sampled(first), sampled(second)
    same = sum(a == b for a, b in zip(ours, theirs, strict=False))
    print(
        f"rollouts of the first RL step: {same} of {len(ours)} and {len(theirs)} equal"
    )
    is_alike = same == len(ours) == len(theirs)
    ours, theirs = rl_steps(first), rl_steps(second)
    steps = list(zip(ours, theirs, strict=False))
    if len(ours) != len(theirs):
        shorter = first if len(ours) < len(theirs) else second
        print(f"{shorter} has only {count(steps)}, so no more are compared")
    if not steps:
        print("no RL step to compare")
        return 1
    print(f"metrics of {count(steps)}: largest difference, and its step")
    for key in dict.fromkeys(itertools.chain(*ours, *theirs)):
        if key.startswith(NOT_COMPARED):
            continue
        line, is_near = compared(key, steps)
        is_alike &= is_near
        if line:
            print(f"  {key:28} {line}{'' if is_near else '  <- more than rounding'}")
    return 0 if is_alike else 1


def command(words: Sequence[str]) -> int:
    """Compares the runs that the command line names; returns the exit status."""
    if len(words) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return main(*map(Path, words))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
