"""`jaxsearch bench update`: one update on finished rollouts."""

import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax

from jaxsearch.bench.measurement import compilations, say
from jaxsearch.bench.peer import TRAINERS, Measured, Peer
from jaxsearch.bench.synthetic_update import SyntheticUpdate
from jaxsearch.bench.update_roofline import peak_rate, phases
from jaxsearch.bench.workload import Workload, read_workload


def bench_update(
    source: str, *, max_tokens: int, repeats: int, peers: dict[str, str]
) -> dict[str, Any]:
    """Returns medians of `repeats` updates after a warm-up; engines take turns.

    Peers start from the same weights and rows, so that their loss and gradient norm in
    the first update can be compared with ours.

    Args:
      source: a workload file, or the name of a packaged workload.
      max_tokens: padded tokens per microbatch (peers choose their own).
      repeats: number of measured updates.
      peers: the Python interpreter of each peer, by its name.

    Raises:
      ValueError: if the workload or a peer cannot be used.
    """
    if min(repeats, max_tokens) < 1:
        raise ValueError(
            "--repeats and --max-tokens must be at least 1, got "
            f"{repeats} and {max_tokens}"
        )
    workload = read_workload(source)
    with contextlib.ExitStack() as stack:
        ours = SyntheticUpdate(workload, max_tokens)
        others = {}
        if peers:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ours.write(folder, workload.dtype)
        for name, python in peers.items():
            others[name] = Peer(name, python, folder, known=TRAINERS)
            stack.callback(others[name].close)
        say(f"warming up: jaxsearch{''.join(f', {name}' for name in others)}")
        first = {"jaxsearch": ours.run()}
        first |= {name: peer.run() for name, peer in others.items()}
        runs: dict[str, list[Measured]] = {name: [] for name in first}
        with compilations() as compiled:
            for number in range(repeats):
                runs["jaxsearch"].append(ours.run())
                for name, peer in others.items():
                    runs[name].append(peer.run())
                took = ", ".join(f"{n} {r[-1].seconds:.2f} s" for n, r in runs.items())
                say(f"run {number + 1}/{repeats}: {took}")
    # Computed before the roofline is measured, which would raise the peak memory.
    speeds = {name: _speed(first[name], runs[name]) for name in runs}
    speed = speeds.pop("jaxsearch")
    result = _summary(workload, ours, speed, len(compiled))
    for name, theirs in speeds.items():
        result[name] = theirs | {
            "times_slower": theirs["seconds"] / speed["seconds"],
            "times_the_memory": theirs["peak_bytes"] / speed["peak_bytes"],
        }
    return result


def _speed(first: Measured, runs: list[Measured]) -> dict[str, Any]:
    seconds = statistics.median(run.seconds for run in runs)
    return {
        "seconds": seconds,
        "runs": [run.seconds for run in runs],
        "tokens_per_s": first.policy_tokens / seconds,
        "peak_bytes": runs[-1].answer["peak_bytes"],
        "loss": first.answer["loss"],
        "grad_norm": first.answer["grad_norm"],
    }


def _summary(
    workload: Workload, ours: SyntheticUpdate, speed: dict[str, Any], num_compiled: int
) -> dict[str, Any]:
    work = phases(workload)
    limit_seconds = sum(phase.seconds for phase in work.values())
    flops_per_s = sum(phase.flops for phase in work.values()) / speed["seconds"]
    tokens = sum(workload.row_lens)
    padded = sum(batch.tokens.size for batch in ours.batches)
    return {
        "workload": {
            "rollouts": workload.num_rollouts,
            "longest": max(workload.row_lens),
            "policy_tokens": workload.policy_tokens,
        },
        "device": jax.devices()[0].device_kind,
        "tokens": tokens,
        **speed,
        "gflops_per_s": flops_per_s / 1e9,
        "model_flops_utilization": flops_per_s / peak_rate(workload.dtype),
        "limit_seconds": limit_seconds,
        "limit_fraction": limit_seconds / speed["seconds"],
        "limit": {
            name: {"seconds": w.seconds, "gflops_per_s": w.flops / w.seconds / 1e9}
            for name, w in work.items()
        },
        "padding_share": 1 - tokens / padded,
        "recompilations": num_compiled,
    }
