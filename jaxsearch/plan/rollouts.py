"""The programs of rollouts, lowered with shapes so that nothing is allocated."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from jaxsearch.config import RLStage, RunConfig
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.plan.sharded_shapes import with_shardings
from jaxsearch.rollouts.decode import Programs, Prompts
from jaxsearch.rollouts.layout import (
    on_replica,
    page_shardings,
    replicated,
    rollout_shardings,
    slot_shardings,
)
from jaxsearch.rollouts.shapes import Shapes, initial_slots
from jaxsearch.rollouts.slots import Slots
from jaxsearch.rollouts.stop import num_stop_states
from jaxsearch.run.environments import checked_stop_tags
from jaxsearch.run.sampler import rollout_budgets, rollout_programs

Lowered = Any  # jax.stages.Lowered


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rollouts:
    """The device programs of one replica, with their largest shapes.

    Attributes:
      mesh: mesh of the replica.
      backend: the name that `jax.default_backend` would return.
    """

    config: RunConfig
    stage: RLStage
    trained: Transformer
    mesh: Mesh
    backend: str

    @functools.cached_property
    def transformer(self) -> Transformer:
        return on_replica(self.trained, self.mesh)

    @functools.cached_property
    def shapes(self) -> Shapes:
        budgets = rollout_budgets(self.config.rollout)
        return Shapes(
            budgets,
            self.backend,
            self.transformer.architecture,
            self.transformer.decode_kernel,
        )

    @functools.cached_property
    def params(self) -> Params:
        shapes = self.transformer.rollout_shapes
        return with_shardings(shapes, rollout_shardings(self.mesh, self.transformer))

    @functools.cached_property
    def slots(self) -> Slots:
        make = functools.partial(initial_slots, self.shapes, self.transformer)
        shapes = jax.eval_shape(make)
        return with_shardings(shapes, slot_shardings(self.mesh, shapes))

    @property
    def prompts(self) -> Prompts:
        """Enough prefilled prompts to fill every slot."""
        tokens, length = self._prompt_rows
        pages = jax.eval_shape(
            lambda *given: self._programs.prefill(*given, self.shapes.page_len),
            self.params,
            tokens,
            length,
        ).pages
        shardings = tuple(page_shardings(self.mesh, layer) for layer in pages)
        return Prompts(tokens, length, with_shardings(pages, shardings))

    @property
    def table(self) -> jax.ShapeDtypeStruct:
        """The stop table of the stage's protocol and the config's environment."""
        num_states = num_stop_states(
            checked_stop_tags(self.config, self.stage.task.protocol)
        )
        return self._ints(num_states, self.transformer.architecture.vocab_size)

    def prefill(self) -> Lowered:
        """The prefill of enough prompts to fill every slot."""
        tokens, length = self._prompt_rows
        programs, page_len = self._programs, self.shapes.page_len
        return Programs.prefill.lower(programs, self.params, tokens, length, page_len)

    def append(self) -> Lowered:
        """The append of the longest observations to the longest rows."""
        row_len = max(self.shapes.append_rows)
        rows = self.shapes.append_rows[row_len][-1]
        return Programs.observe.lower(
            self._programs,
            self.params,
            self.slots,
            self._ints(rows),
            self._ints(rows, self.shapes.row_pages[-1]),
            self._ints(rows, row_len),
            self._ints(rows),
            self._ints(rows),
        )

    def decode(self) -> Lowered:
        """The decoding of all slots."""
        budgets = self.shapes.budgets
        one = jax.ShapeDtypeStruct((), jnp.float32, sharding=self._replicated)
        return Programs.decode.lower(
            self._programs,
            self.params,
            self.slots,
            self._ints(budgets.num_slots),
            self._ints(budgets.num_slots, self.shapes.row_pages[-1]),
            self.table,
            one,
            self._ints(),
            self._ints(),
            self.shapes.num_pages,
        )

    @property
    def _prompt_rows(self) -> Sequence[jax.ShapeDtypeStruct]:
        num_prompts = self.shapes.budgets.num_prompts(self.stage.group_size)
        row_len = self.shapes.prompt_lens[-1]
        return self._ints(num_prompts, row_len), self._ints(num_prompts)

    @property
    def _programs(self) -> Programs:
        # Any end id works, because the programs' shapes do not depend on it.
        return rollout_programs(self.config, self.transformer, end_ids=(0,))

    @property
    def _replicated(self) -> NamedSharding:
        return replicated(self.mesh)

    def _ints(self, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=self._replicated)
