"""The update function of a stage, without its state."""

import dataclasses
from typing import Any

import jax

from jaxsearch import mesh as meshes
from jaxsearch.announce import Announce, silently
from jaxsearch.config import RLStage, SupervisedStage
from jaxsearch.id_ranges import IdRanges
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.rl.objectives import Objective
from jaxsearch.rl.optimizer import make_optimizer
from jaxsearch.rl.update import Updater
from jaxsearch.run.network import param_shardings


def make_updater(
    transformer: Transformer,
    mesh: jax.sharding.Mesh,
    stage: SupervisedStage | RLStage,
    objective: Objective,
    temperature: float,
    frozen: Params,
    announce: Announce = silently,
    id_ranges: IdRanges | None = None,
) -> Updater:
    """The update of a stage.

    Args:
      transformer: the network in training.
      mesh: the mesh of training.
      stage: stage with the optimizer; the schedule covers its configured steps.
      objective: the loss per token.
      temperature: temperature of the log-probs in the loss.
      frozen: the weights under adapters; {} if all parameters are trained.
      announce: receives what is compiled.
      id_ranges: ids that have a token; None for all.
    """
    head = param_shardings(transformer, mesh)[transformer.head_name]
    return Updater(
        forward=_Forward(transformer),
        head=_Head(transformer),
        objective=objective,
        optimizer=make_optimizer(stage.optimizer, stage.num_updates),
        temperature=temperature,
        head_sharding=meshes.head_sharding(mesh, head),
        id_ranges=id_ranges,
        frozen=frozen,
        announce=announce,
    )


@dataclasses.dataclass(frozen=True)
class _Forward:
    """Hidden states of whole rows.

    A dataclass and not a closure, so that equal networks share a compiled program.
    """

    transformer: Transformer

    def __call__(self, params: Params, tokens: Any, segments: Any) -> Any:
        return self.transformer.hidden(params, tokens, segments)


@dataclasses.dataclass(frozen=True)
class _Head:
    """The matrix of the output head; a dataclass for the same reason."""

    transformer: Transformer

    def __call__(self, params: Params) -> Any:
        return self.transformer.head(params)
