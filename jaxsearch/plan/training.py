"""The programs of an update, lowered with shapes so that nothing is allocated."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxsearch import mesh as meshes
from jaxsearch.config import RLStage, RunConfig
from jaxsearch.models.adapters import split
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.plan.sharded_shapes import with_shardings
from jaxsearch.rl.batching import TrainBatch, batch_shapes, num_batch_rows
from jaxsearch.rl.update import TrainState, Updater, apply_optimizer, initial_state
from jaxsearch.rollouts.budgets import row_buckets
from jaxsearch.run.network import param_shardings
from jaxsearch.run.updater import make_updater

Lowered = Any  # jax.stages.Lowered


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """The update of a stage, for microbatches of its longest rows."""

    config: RunConfig
    stage: RLStage
    transformer: Transformer
    mesh: Mesh

    @functools.cached_property
    def params(self) -> tuple[Params, Params]:
        """The frozen and the trained parameters."""
        shardings = param_shardings(self.transformer, self.mesh)
        everything = with_shardings(self.transformer.shapes, shardings)
        return split(self.transformer.lora, everything)

    @functools.cached_property
    def updater(self) -> Updater:
        return make_updater(
            self.transformer,
            self.mesh,
            self.stage,
            self.stage.objective,
            self.stage.temperature,
            self.params[0],
        )

    @functools.cached_property
    def state(self) -> TrainState:
        trained, optimizer = self.params[1], self.updater.optimizer
        on_all = meshes.replicated(self.mesh)
        state = jax.eval_shape(
            functools.partial(
                initial_state,
                optimizer=optimizer,
                needs_reference=self.stage.needs_reference,
            ),
            trained,
        )
        return state._replace(
            params=trained,
            opt_state=optax.tree_map_params(
                optimizer,
                lambda x, param: with_shardings(x, param.sharding),
                state.opt_state,
                trained,
                transform_non_params=lambda x: with_shardings(x, on_all),
            ),
            reference=trained if state.reference else {},
            num_updates=with_shardings(state.num_updates, on_all),
            num_skipped=with_shardings(state.num_skipped, on_all),
        )

    @property
    def batch(self) -> TrainBatch:
        row_len = row_buckets(self.config.rollout.max_len)[-1]
        num_rows = num_batch_rows(
            self.stage.max_tokens, row_len, meshes.row_multiple(self.mesh)
        )
        return batch_shapes(num_rows, row_len, meshes.row_sharding(self.mesh))

    def accumulate(self) -> Lowered:
        """The program that adds the gradient of one microbatch."""
        gradient, state = self.updater.gradient, self.state
        arguments = (self.params[0], state.params, state.reference, state.params)
        return type(gradient).accumulate.lower(gradient, *arguments, self.batch)

    def apply(self) -> Lowered:
        """The program of the optimizer step."""
        weight = jax.ShapeDtypeStruct(
            (), jnp.float32, sharding=meshes.replicated(self.mesh)
        )
        state = self.state
        optimizer = self.updater.optimizer
        return apply_optimizer.lower(optimizer, state, state.params, weight, True)
