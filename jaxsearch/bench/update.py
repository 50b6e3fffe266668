"""`jaxsearch bench update`: one update on finished rollouts, beside its limit."""

import contextlib
import dataclasses
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsearch.bench.measurement import compilations, peak_bytes, say
from jaxsearch.bench.peer import TRAINERS, Measured, Peer
from jaxsearch.bench.update_roofline import peak_rate, phases
from jaxsearch.bench.workload import Workload, read_workload
from jaxsearch.models.hf_config import to_hf_config
from jaxsearch.models.save import MAX_FILE_BYTES, save_tensors
from jaxsearch.models.transformer import Transformer
from jaxsearch.rl.batching import microbatches
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig, make_optimizer
from jaxsearch.rl.rows import TrainRow
from jaxsearch.rl.update import Updater, begin_stage
from jaxsearch.rollout.budgets import row_buckets

_OPTIMIZER = OptimizerConfig()
_OBJECTIVE_SETTINGS = ("clip_low", "clip_high")


def finished_rows(workload: Workload) -> list[TrainRow]:
    """The workload's rollouts as they end: random ids, authors as the script says.

    The sampler's log-probs are those of a policy that knows nothing.
    """
    rng = np.random.default_rng(0)
    vocab_size = workload.architecture.vocab_size
    rows = []
    for turns in workload.turn_lens:
        authors = [np.zeros(workload.prompt_len, bool)]
        for length in turns:
            authors += [np.ones(length, bool), np.zeros(workload.observation_len, bool)]
        loss_mask = np.concatenate(authors[:-1])
        uniform = np.full(len(loss_mask), -math.log(vocab_size), np.float32)
        rows.append(
            TrainRow(
                tokens=rng.integers(vocab_size, size=len(loss_mask), dtype=np.int32),
                loss_mask=loss_mask,
                behavior_logprobs=uniform,
                sampling_logprobs=uniform,
                advantages=float(rng.normal()),
            )
        )
    return rows


class Engine:
    """A policy with random weights, its optimizer, and the rows to learn from."""

    def __init__(self, workload: Workload, max_tokens: int):
        self._transformer = Transformer(
            architecture=workload.architecture, dtype=jnp.dtype(workload.dtype)
        )
        self.rows = finished_rows(workload)
        self._max_tokens = max_tokens
        optimizer = make_optimizer(_OPTIMIZER, 1000)
        self._updater = Updater(
            forward=self._transformer.hidden,
            head=self._transformer.head,
            objective=PolicyObjective(kl_weight=0.0),
            optimizer=optimizer,
            temperature=workload.temperature,
        )
        params = jax.jit(self._transformer.init)(jax.random.key(0))
        self._state = begin_stage(params, optimizer, needs_reference=False)

    def write(self, folder: Path, dtype: str) -> None:
        """The policy as a Hugging Face folder, rows and settings beside it."""
        architecture = self._transformer.architecture
        longest = max(len(row.tokens) for row in self.rows)
        config = to_hf_config(architecture, max_positions=longest, dtype="float32")
        (folder / "config.json").write_text(json.dumps(config))
        save_tensors(
            folder, self._state.params, architecture, "float32", MAX_FILE_BYTES
        )
        objective = vars(self._updater.objective)
        settings = {"dtype": dtype, "temperature": self._updater.temperature}
        settings |= dataclasses.asdict(_OPTIMIZER)
        settings |= {name: objective[name] for name in _OBJECTIVE_SETTINGS}
        (folder / "update.json").write_text(json.dumps(settings))
        np.savez(
            folder / "rows.npz",
            lengths=[len(row.tokens) for row in self.rows],
            advantages=[row.advantages for row in self.rows],
            **{
                name: np.concatenate([row._asdict()[name] for row in self.rows])
                for name in ("tokens", "loss_mask", "behavior_logprobs")
            },
        )

    @property
    def batches(self):
        """The microbatches of an update, in the shapes that a run would choose."""
        longest = max(len(row.tokens) for row in self.rows)
        return microbatches(
            self.rows, row_lens=row_buckets(longest), max_tokens=self._max_tokens
        )

    def run(self) -> Measured:
        """One update, from rows on the host to parameters that are there."""
        started = time.perf_counter()
        self._state, metrics = self._updater.update(self._state, self.batches)
        jax.block_until_ready(self._state)
        seconds = time.perf_counter() - started
        return Measured(
            seconds,
            sum(len(row.tokens) for row in self.rows),
            {
                "loss": float(metrics["loss"].value),
                "grad_norm": float(metrics["grad_norm"]),
                "peak_bytes": peak_bytes(),
            },
        )


def bench_update(
    workload: str, *, max_tokens: int, repeats: int, peers: dict[str, str]
) -> dict[str, Any]:
    """Medians of `repeats` updates after one that warms up; peers take turns with ours.

    Peers begin with the same weights and rows: their loss and the norm of their
    gradient in the first update are compared with ours.

    Args:
      max_tokens: padded tokens of a microbatch of ours (peers choose their own).
      peers: name of a peer -> the Python that has it.

    Errors: ValueError for a workload or a peer that cannot be used.
    """
    if min(repeats, max_tokens) < 1:
        raise ValueError(
            "--repeats and --max-tokens must be at least 1, got "
            f"{repeats} and {max_tokens}"
        )
    script = read_workload(workload)
    with contextlib.ExitStack() as stack:
        engine = Engine(script, max_tokens)
        others = {}
        if peers:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            engine.write(folder, script.dtype)
        for name, python in peers.items():
            others[name] = Peer(name, python, folder, known=TRAINERS)
            stack.callback(others[name].close)
        say(f"warming up: jaxsearch{''.join(f', {name}' for name in others)}")
        first = {"jaxsearch": engine.run()}
        first |= {name: peer.run() for name, peer in others.items()}
        runs: dict[str, list[Measured]] = {name: [] for name in first}
        with compilations() as compiled:
            for number in range(repeats):
                runs["jaxsearch"].append(engine.run())
                for name, peer in others.items():
                    runs[name].append(peer.run())
                took = ", ".join(f"{n} {r[-1].seconds:.2f} s" for n, r in runs.items())
                say(f"run {number + 1}/{repeats}: {took}")
    # Read before the limit is measured, which takes memory of its own.
    ours, *_ = results = [_speed(first[name], runs[name]) for name in runs]
    result = _summary(script, engine, ours, len(compiled))
    for name, theirs in zip(others, results[1:], strict=True):
        result[name] = theirs | {
            "times_slower": theirs["seconds"] / ours["seconds"],
            "times_the_memory": theirs["peak_bytes"] / ours["peak_bytes"],
        }
    return result


def _speed(first: Measured, runs: list[Measured]) -> dict[str, Any]:
    seconds = statistics.median(run.seconds for run in runs)
    return {
        "seconds": seconds,
        "runs": [run.seconds for run in runs],
        "tokens_per_s": first.policy_tokens / seconds,
        "peak_bytes": runs[-1].said["peak_bytes"],
        "loss": first.said["loss"],
        "grad_norm": first.said["grad_norm"],
    }


def _summary(
    workload: Workload, engine: Engine, ours: dict[str, Any], num_compiled: int
) -> dict[str, Any]:
    work = phases(workload)
    limit_seconds = sum(phase.seconds for phase in work.values())
    flops_per_s = sum(phase.flops for phase in work.values()) / ours["seconds"]
    tokens = sum(workload.row_lens)
    padded = sum(batch.tokens.size for batch in engine.batches)
    return {
        "workload": {
            "rollouts": workload.num_rollouts,
            "longest": max(workload.row_lens),
            "policy_tokens": workload.policy_tokens,
        },
        "device": jax.devices()[0].device_kind,
        "tokens": tokens,
        **ours,
        "gflops_per_s": flops_per_s / 1e9,
        "model_flops_utilization": flops_per_s / peak_rate(workload.dtype),
        "limit_seconds": limit_seconds,
        "limit_fraction": limit_seconds / ours["seconds"],
        "limit": {
            name: {"seconds": w.seconds, "gflops_per_s": w.flops / w.seconds / 1e9}
            for name, w in work.items()
        },
        "padding_share": 1 - tokens / padded,
        "recompilations": num_compiled,
    }
