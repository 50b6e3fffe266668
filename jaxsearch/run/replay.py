"""Replays an update that was not finite, and finds the cause."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from jaxsearch.config import RLStage
from jaxsearch.mesh import put_batch, row_multiple
from jaxsearch.models.adapters import split
from jaxsearch.models.transformer import Params
from jaxsearch.rl.batching import TrainBatch, padded
from jaxsearch.rl.diagnosis import Quantity, update_quantities
from jaxsearch.rl.objectives import ImitationObjective
from jaxsearch.run.build import Run
from jaxsearch.run.checkpoint import restore_parts
from jaxsearch.run.fingerprint import fingerprint
from jaxsearch.run.folder import check_frozen, read_run_config
from jaxsearch.run.loading import open_anywhere
from jaxsearch.run.non_finite import PARAMETERS, NonFiniteUpdate, read_update


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """An update that was run again.

    Attributes:
      update: the kept update.
      stage_name: name of its stage.
      quantities: its quantities, in the order of computation.
      token: text of the first token with a quantity that is not finite; None if there
        is none.
    """

    update: NonFiniteUpdate
    stage_name: str
    quantities: list[Quantity]
    token: str | None

    @property
    def non_finite(self) -> list[Quantity]:
        """The quantities that are not finite."""
        return [one for one in self.quantities if not one.is_finite]


def replay(folder: Path) -> Replay:
    """Runs a kept update again, with its original parameters.

    Args:
      folder: folder of the update, in its run's folder.

    Raises:
      ValueError: if the folder is not that of an update, or it or its run is damaged.
    """
    update = read_update(folder)
    run_folder = folder.resolve().parents[1]
    config = read_run_config(run_folder)
    if not 0 <= update.stage < len(config.stages):
        raise ValueError(f"{folder} is of stage {update.stage}, which its run lacks")
    run = open_anywhere(config)
    stage = run.config.stages[update.stage]
    frozen: Params = {}
    if run.transformer.lora.rank:
        frozen, _ = split(run.transformer.lora, run.initial_params())
        check_frozen(run_folder, fingerprint(frozen))
    is_rl = isinstance(stage, RLStage)
    if update.has_reference != (is_rl and stage.needs_reference):
        raise ValueError(
            f"{folder} is damaged: its stage {stage.name} "
            + ("has no reference" if update.has_reference else "needs a reference")
        )
    updater = run.updater(
        stage,
        stage.objective if is_rl else ImitationObjective(),
        stage.temperature if is_rl else 1.0,
        frozen,
    )
    arrays = _arrays(run, update, folder / PARAMETERS)
    multiple = row_multiple(run.mesh)
    batches = [put_batch(run.mesh, padded(batch, multiple)) for batch in update.batches]
    quantities = update_quantities(
        updater,
        arrays["params"],
        arrays.get("reference", {}),
        batches,
        update.divisor,
    )
    return Replay(
        update=update,
        stage_name=stage.name,
        quantities=quantities,
        token=_token(run, update.batches, quantities),
    )


def _arrays(run: Run, update: NonFiniteUpdate, folder: Path) -> dict[str, Any]:
    """The parameters of an update, and those of its reference if it has one."""
    shapes = jax.tree.map(
        lambda shape, sharding: shape.update(sharding=sharding),
        run.transformer.shapes,
        run.param_shardings,
    )
    _, wanted = split(run.transformer.lora, shapes)
    fields = ["params", "reference"][: 1 + update.has_reference]
    return restore_parts(folder, dict.fromkeys(fields, wanted))


def _token(
    run: Run, batches: list[TrainBatch], quantities: list[Quantity]
) -> str | None:
    """Text of the first token that is not finite."""
    first = next((one.first for one in quantities if one.first), None)
    if first is None:
        return None
    number, row, position = first
    return run.inputs.tokenizer.decode([int(batches[number].tokens[row, position])])


def conclusion(found: Replay) -> str:
    """A diagnosis: the first quantity that is not finite, and what to check."""
    bad = found.non_finite
    if not bad:
        return (
            "all quantities are finite here: this machine, or this version, computes "
            "another result than the run did"
        )
    first = bad[0].name
    if first.startswith("parameters"):
        return (
            f"the {first} were not finite before the update: an earlier one destroyed "
            "them; go back with --rewind, and lower the learning rate"
        )
    if first == "advantages" or first == "weights":
        return f"it begins in the {first}: look at the rewards and the estimator"
    if first.endswith("logprobs"):
        return f"it begins in the {first} of the sampler: look at the rollouts"
    if first.startswith("log-probs") or first == "entropy":
        return (
            f"it begins in the {first}: the network overflows; look at the largest "
            "parameters, or use float32 activations (--model.dtype float32)"
        )
    if first.startswith("gradient"):
        return (
            "the loss is finite and its gradient is not: a function in it has an "
            "infinite derivative, such as a square root or a division at 0"
        )
    if first.startswith("norm"):
        return "the gradient is finite, but the sum of its squares overflows"
    return f"it begins in the {first}: look at the objective and its weights"
