"""Compares two runs of one config, for example in one process and in several.

    JAXSEARCH_CPU_DEVICES=2 bash launch/local_processes.sh 1 CONFIG --out runs/one
    bash launch/local_processes.sh 2 CONFIG --out runs/two
    python launch/compare_runs.py runs/one runs/two

Both runs above have two devices. With a different number of devices, sums are in a
different order, and a long warm-up amplifies the rounding until some rollouts differ.

Prints how many rollouts of the first RL step are equal, and the largest difference of
each metric over the first five RL steps (times excluded). Exits with status 1 if
rollouts of the first step differ, or if a metric differs by more than a thousandth of
its value (near zero: by more than 1e-5). With more than two devices, several processes
may also sum in a different order.
"""

import itertools
import math
import sys
from pathlib import Path

from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.monitor.writers import read_metrics

RELATIVE, ABSOLUTE = 1e-3, 1e-5
NUM_STEPS = 5
NOT_COMPARED = ("time/", "tokens_per_s/", "logprob_drift/")


def sampled(run: Path) -> list[tuple]:
    """Prompt index, sample index and segments of the rollouts of the first RL step."""
    files = rollout_files(run)
    if not files:
        sys.exit(f"{run} has no rollouts: set --logging.rollouts-every 1")
    return [
        (r.prompt_index, r.sample_index, r.segments)
        for r in read_rollouts(files[min(files)])
    ]


def rl_steps(run: Path) -> list[dict]:
    """Metrics of the first RL steps."""
    lines = read_metrics(run / "metrics.jsonl")
    return [line for line in lines if "reward/mean" in line][:NUM_STEPS]


def main(first: Path, second: Path) -> int:
    ours, theirs = sampled(first), sampled(second)
    same = sum(a == b for a, b in zip(ours, theirs, strict=False))
    print(
        f"rollouts of the first RL step: {same} of {len(ours)} and {len(theirs)} equal"
    )
    is_alike = same == len(ours) == len(theirs)
    steps = list(itertools.zip_longest(rl_steps(first), rl_steps(second), fillvalue={}))
    print(f"metrics of {len(steps)} RL steps: largest difference, and its step")
    for key in steps[0][0]:
        pairs = [(a.get(key), b.get(key)) for a, b in steps]
        if key.startswith(NOT_COMPARED) or isinstance(pairs[0][0], str):
            continue
        differences = [
            math.inf if a is None or b is None else 0.0 if a == b else abs(a - b)
            for a, b in pairs
        ]
        worst = max(range(len(pairs)), key=differences.__getitem__)
        is_near = all(
            d <= max(ABSOLUTE, RELATIVE * abs(a or 0))
            for d, (a, _) in zip(differences, pairs, strict=True)
        )
        is_alike &= is_near
        step = steps[worst][0].get("step")
        mark = "" if is_near else "  <- more than rounding"
        print(f"  {key:28} {differences[worst]:.3g} at step {step}{mark}")
    return 0 if is_alike else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*map(Path, sys.argv[1:])))
