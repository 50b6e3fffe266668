"""Updates whose gradient was not finite, kept for `jaxsearch replay`.

Such an update is skipped, so its parameters still exist when it is detected. They and
the microbatches are written to `non_finite/step_000012` in the run's folder, without
pickles: update.json, batch_0.npy and so on, and parameters/ (Orbax). Of several
consecutive updates, only the first is kept.
"""

import dataclasses
import io
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from jaxsearch import json_files, json_lines, processes
from jaxsearch.json_types import typed
from jaxsearch.metrics import summarise
from jaxsearch.rl.batching import BATCH_DTYPES, TrainBatch
from jaxsearch.rl.policy_update import Minibatch
from jaxsearch.rl.update import TrainState
from jaxsearch.run.checkpoint_damage import damage
from jaxsearch.run.checkpoint_hashes import write_hashes
from jaxsearch.search.array_files import read_array

# Name of the folder in a run's folder.
NON_FINITE_FOLDER = "non_finite"
# Names in the folder of an update.
PARAMETERS = "parameters"
_RECORD = "update.json"
_TOKEN = np.dtype(list(BATCH_DTYPES._asdict().items()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NonFiniteUpdate:
    """An update whose gradient was not finite.

    Attributes:
      step: its step, counted from 1 over all stages.
      stage: index of its stage.
      divisor: divisor of the summed loss; None for the sum of the weights.
      has_reference: whether the reference's parameters were also kept.
      metrics: metrics of the update in the run.
      batches: microbatches of the update, on the host.
    """

    step: int
    stage: int
    divisor: float | None
    has_reference: bool
    metrics: Mapping[str, float]
    batches: list[TrainBatch]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Record:
    """The fields of `update.json`: those of `NonFiniteUpdate`, and the batches."""

    step: int
    stage: int
    divisor: float | None
    has_reference: bool
    num_batches: int
    metrics: dict[str, float]


class KeptUpdates:
    """Saves updates of a stage whose gradient is not finite.

    All processes of a run must call it together.

    Args:
      run_folder: the run's folder.
      keep: maximum number of updates to keep.
      stage: index of the stage.
      step: returns the current step.
      wait: waits until no checkpoint is being written, because Orbax does not support
        two saves at once.
      say: receives a line for each kept update.
    """

    def __init__(
        self,
        run_folder: Path,
        keep: int,
        stage: int,
        step: Callable[[], int],
        wait: Callable[[], None],
        say: Callable[..., Any],
    ):
        self._folder = run_folder / NON_FINITE_FOLDER
        self._keep = keep
        self._stage = stage
        self._step = step
        self._wait = wait
        self._say = say

    def __call__(
        self, state: TrainState, minibatch: Minibatch, metrics: Mapping[str, Any]
    ) -> None:
        """Keeps an update if it is the first of consecutive skipped ones.

        An update without tokens in the loss is not kept; its gradient is 0 / 0.

        Args:
          state: the state after the update; unchanged if the update was skipped.
          minibatch: microbatches and divisor of the update.
          metrics: metrics of the update.
        """
        if not self._keep or int(state.num_skipped) != 1:
            return
        batches = [
            TrainBatch(*multihost_utils.process_allgather(batch, tiled=True))
            for batch in minibatch.batches
        ]
        if not any(batch.loss_mask.any() for batch in batches):
            return
        step = self._step()
        target = self._folder / f"step_{step:06d}"
        unfinished = self._folder / f".step_{step:06d}"
        # A resumed run repeats the step, and keeps the same update again.
        for old in (target, unfinished):
            processes.on_primary(lambda old=old: shutil.rmtree(old, ignore_errors=True))
        self._save(state, unfinished / PARAMETERS)
        if processes.is_primary():
            _write(unfinished, batches, self._record(step, state, minibatch, metrics))
            self._make_room(step)
            unfinished.rename(target)
        processes.wait_for_all("kept an update")
        self._say(
            f"step {step}: the gradient is not finite, so the update is skipped"
            f"{replay_hint(self._folder.parent, step)}"
        )

    def _save(self, state: TrainState, folder: Path) -> None:
        from orbax.checkpoint import v1 as ocp

        self._wait()
        arrays = {"params": state.params, "reference": state.reference}
        ocp.save_checkpointables(folder.resolve(), {"state": arrays})
        if processes.is_primary():
            write_hashes(folder)

    def _record(
        self,
        step: int,
        state: TrainState,
        minibatch: Minibatch,
        metrics: Mapping[str, Any],
    ) -> dict[str, Any]:
        return {
            "step": step,
            "stage": self._stage,
            "divisor": minibatch.divisor,
            "has_reference": bool(state.reference),
            "num_batches": len(minibatch.batches),
            "metrics": summarise(metrics),
        }

    def _make_room(self, step: int) -> None:
        """Deletes the oldest updates to make room for one more."""
        others = kept_steps(self._folder.parent)
        # Later steps are from before a rewind.
        others.sort(key=lambda other: (other < step, other))
        for other in others[: len(others) + 1 - self._keep]:
            shutil.rmtree(self._folder / f"step_{other:06d}")


def kept_steps(run_folder: Path) -> list[int]:
    """Steps of the kept updates in a run's folder, in order."""
    names = [one.name for one in (run_folder / NON_FINITE_FOLDER).glob("step_*")]
    numbers = [name.removeprefix("step_") for name in names]
    return sorted(int(number) for number in numbers if number.isdecimal())


def replay_hint(run_folder: Path, step: int) -> str:
    """End of a message about a step: how to replay its update, if it was kept."""
    if step not in kept_steps(run_folder):
        return ""
    folder = run_folder / NON_FINITE_FOLDER / f"step_{step:06d}"
    return f"; `jaxsearch replay {folder}` shows which quantities are not finite"


def _write(folder: Path, batches: list[TrainBatch], record: dict[str, Any]) -> None:
    for number, batch in enumerate(batches):
        tokens = np.empty(batch.tokens.shape, _TOKEN)
        for name, array in batch._asdict().items():
            tokens[name] = array
        buffer = io.BytesIO()
        np.save(buffer, tokens, allow_pickle=False)
        json_lines.replace_file(folder / f"batch_{number}.npy", buffer.getvalue())
    json_lines.replace_file(folder / _RECORD, json_lines.encode(record).encode())


def _read_batch(path: Path) -> TrainBatch:
    tokens = read_array(path)
    if tokens.dtype != _TOKEN or tokens.ndim != 2 or not tokens.size:
        raise ValueError(f"{path} is damaged: expected rows of the tokens of a batch")
    return TrainBatch(*(np.ascontiguousarray(tokens[name]) for name in _TOKEN.names))


def read_update(folder: Path) -> NonFiniteUpdate:
    """Reads a kept update, without its parameters.

    Raises:
      ValueError: if the folder is not that of an update, or is damaged.
    """
    if not (folder / _RECORD).is_file():
        raise ValueError(
            f"{folder} has no {_RECORD}; expected a folder such as "
            f"runs/NAME/{NON_FINITE_FOLDER}/step_000012, which a run writes when a "
            "gradient is not finite"
        )
    if reason := damage(folder / PARAMETERS, has_progress=False):
        raise ValueError(f"{folder / PARAMETERS} is damaged: {reason}")
    fields = json_lines.restored(json_files.read_json(folder / _RECORD))
    record = typed(fields, _Record, f"{folder / _RECORD}: the update")
    if record.num_batches < 1 or not {"loss", "grad_norm"} <= record.metrics.keys():
        raise ValueError(
            f"{folder / _RECORD} is damaged: expected a batch, loss and grad_norm"
        )
    return NonFiniteUpdate(
        step=record.step,
        stage=record.stage,
        divisor=record.divisor,
        has_reference=record.has_reference,
        metrics=record.metrics,
        batches=[
            _read_batch(folder / f"batch_{number}.npy")
            for number in range(record.num_batches)
        ],
    )
