"""The programs of a run with shapes in place of arrays: nothing is allocated."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from jaxsearch import mesh as meshes
from jaxsearch.config import RLStage, RunConfig
from jaxsearch.models.adapters import split
from jaxsearch.models.cache import empty_cache
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.rewards.recipes import recipe_named
from jaxsearch.rl.update import TrainState, Updater
from jaxsearch.rollout.decode import Programs, Prompts
from jaxsearch.rollout.layout import (
    on_replica,
    page_shardings,
    rollout_shardings,
    slot_shardings,
    whole,
)
from jaxsearch.rollout.limits import row_buckets
from jaxsearch.rollout.sampling import Cut
from jaxsearch.rollout.shapes import Shapes
from jaxsearch.rollout.slots import Slots, empty_slots
from jaxsearch.run import make_updater, param_shardings, rollout_limits
from jaxsearch.trajectory import TrainBatch

Lowered = Any  # jax.stages.Lowered


def placed(shapes: Any, places: Any) -> Any:
    """Shapes that know where they lie."""
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        shapes,
        places,
    )


def device_bytes(tree: Any) -> int:
    """Bytes that a device holds of arrays, or of shapes that know where they lie."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )


def rows_of_batch(stage: RLStage, row_len: int, row_multiple: int) -> int:
    """Rows of a microbatch, as `trajectory.microbatches` cuts them."""
    return max(1, stage.max_tokens // (row_len * row_multiple)) * row_multiple


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """The update of a stage, for its longest rows."""

    config: RunConfig
    stage: RLStage
    transformer: Transformer
    mesh: Mesh

    @functools.cached_property
    def params(self) -> tuple[Params, Params]:
        """Those that are not trained, and those that are."""
        places = param_shardings(self.transformer, self.mesh)
        everything = placed(self.transformer.shapes, places)
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
        opt_state = optax.tree_map_params(
            optimizer,
            lambda x, param: placed(x, param.sharding),
            jax.eval_shape(optimizer.init, trained),
            trained,
            transform_non_params=lambda x: placed(x, on_all),
        )
        count = jax.ShapeDtypeStruct((), jnp.int32, sharding=on_all)
        needs_reference = self.stage.objective.needs_reference
        return TrainState(
            params=trained,
            opt_state=opt_state,
            reference=trained if needs_reference else {},
            num_updates=count,
            num_skipped=count,
        )

    @property
    def batch(self) -> TrainBatch:
        row_len = row_buckets(self.config.rollout.max_len)[-1]
        rows = rows_of_batch(self.stage, row_len, meshes.row_multiple(self.mesh))
        place = meshes.row_sharding(self.mesh)

        def column(dtype: Any, *more: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((rows, *more), dtype, sharding=place)

        return TrainBatch(
            tokens=column(jnp.int32, row_len),
            segments=column(jnp.int32, row_len),
            is_policy=column(jnp.bool_, row_len),
            old_logprobs=column(jnp.float32, row_len),
            advantages=column(jnp.float32, row_len),
        )

    def accumulate(self) -> Lowered:
        """The gradient of one microbatch."""
        gradient, state = self.updater.gradient, self.state
        given = (self.params[0], state.params, state.reference, state.params)
        return type(gradient).accumulate.lower(gradient, *given, self.batch)

    def apply(self) -> Lowered:
        """The step of the optimizer."""
        weight = jax.ShapeDtypeStruct(
            (), jnp.float32, sharding=meshes.replicated(self.mesh)
        )
        state = self.state
        return Updater._apply.lower(self.updater, state, state.params, weight)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rollouts:
    """The programs of one replica, in their largest shapes.

    Attributes:
      mesh: of the replica.
      backend: as `jax.default_backend` names the devices.
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
        limits = rollout_limits(self.config.rollout)
        return Shapes(limits, self.transformer.architecture, self.backend)

    @functools.cached_property
    def params(self) -> Params:
        shapes = jax.eval_shape(self.transformer.for_rollouts, self.transformer.shapes)
        return placed(shapes, rollout_shardings(self.mesh, self.transformer))

    @functools.cached_property
    def slots(self) -> Slots:
        def make() -> Slots:
            cache = empty_cache(
                self.transformer.architecture,
                self.shapes.part_sizes,
                self.shapes.page_len,
                self.transformer.dtype,
                is_for_kernel=self.shapes.has_kernel,
            )
            limits = self.shapes.limits
            return empty_slots(limits.num_slots, limits.max_len, cache)

        shapes = jax.eval_shape(make)
        return placed(shapes, slot_shardings(self.mesh, shapes))

    @property
    def prompts(self) -> Prompts:
        """As many as fill every slot, prefilled."""
        tokens, length = self._prompt_rows
        pages = jax.eval_shape(
            lambda *given: self._programs.prefill(*given, self.shapes.page_len),
            self.params,
            tokens,
            length,
        ).pages
        places = tuple(page_shardings(self.mesh, layer) for layer in pages)
        return Prompts(tokens, length, placed(pages, places))

    @property
    def table(self) -> jax.ShapeDtypeStruct:
        """Of the stop automaton: a state for each byte of the tags, and two more."""
        tags = recipe_named(self.stage.recipe).protocol.stop_tags
        num_states = sum(len(tag.encode()) for tag in tags) + 2
        return self._ints(num_states, self.transformer.architecture.vocab_size)

    def prefill(self) -> Lowered:
        """As many prompts as fill every slot."""
        tokens, length = self._prompt_rows
        programs, page_len = self._programs, self.shapes.page_len
        return Programs.prefill.lower(programs, self.params, tokens, length, page_len)

    def append(self) -> Lowered:
        """The longest observations, to the longest rows."""
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
        """A step of all slots."""
        limits = self.shapes.limits
        num_pages = -(-limits.max_len // self.shapes.page_len)
        one = jax.ShapeDtypeStruct((), jnp.float32, sharding=self._whole)
        return Programs.decode.lower(
            self._programs,
            self.params,
            self.slots,
            self._ints(limits.num_slots),
            self._ints(limits.num_slots, num_pages),
            self.table,
            one,
            self._ints(),
            self._ints(),
            len(self.shapes.part_sizes),
        )

    @property
    def _prompt_rows(self) -> Sequence[jax.ShapeDtypeStruct]:
        num_prompts = -(-self.shapes.limits.num_slots // self.stage.group_size)
        row_len = self.shapes.prompt_lens[-1]
        return self._ints(num_prompts, row_len), self._ints(num_prompts)

    @property
    def _programs(self) -> Programs:
        rollout = self.config.rollout
        return Programs(
            transformer=self.transformer,
            end_ids=(0,),
            max_turn_len=rollout.max_turn_len,
            cut=Cut(top_k=rollout.top_k, top_p=rollout.top_p),
            seed=self.config.seed,
        )

    @property
    def _whole(self) -> NamedSharding:
        return whole(self.mesh)

    def _ints(self, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=self._whole)
