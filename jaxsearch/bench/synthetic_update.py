"""An update on the finished rollouts of a workload, with random weights."""

import dataclasses
import json
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxsearch.bench.measurement import peak_bytes
from jaxsearch.bench.peer import Measured
from jaxsearch.bench.workload import Workload
from jaxsearch.models.hf_config import to_hf_config
from jaxsearch.models.save import MAX_FILE_BYTES, save_tensors
from jaxsearch.models.transformer import Transformer
from jaxsearch.rl.batching import microbatches
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig, make_optimizer
from jaxsearch.rl.rows import TrainRow
from jaxsearch.rl.update import Updater, begin_stage
from jaxsearch.rollouts.budgets import row_buckets

_OPTIMIZER = OptimizerConfig()
_OBJECTIVE_SETTINGS = ("clip_low", "clip_high")


def finished_rows(workload: Workload) -> list[TrainRow]:
    """Returns the finished rollouts of a workload, with random ids.

    The scripted lengths determine which tokens the policy sampled. The sampler's
    log-probs are those of a uniform policy.
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


class SyntheticUpdate:
    """A policy with random weights, its optimizer, and the rows to train on."""

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
        """Writes the policy as a Hugging Face folder, with rows and settings."""
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
        """The microbatches of an update, in the shapes used in training."""
        longest = max(len(row.tokens) for row in self.rows)
        return microbatches(
            self.rows, row_lens=row_buckets(longest), max_tokens=self._max_tokens
        )

    def run(self) -> Measured:
        """Runs one update, from rows on the host to computed parameters."""
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
