"""The parts of a run, put together once from its config."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxsearch import mesh as meshes
from jaxsearch.config import (
    ModelConfig,
    RLStage,
    RolloutConfig,
    RunConfig,
    SupervisedStage,
)
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.retries import RetryingIndex
from jaxsearch.env.search import Observer
from jaxsearch.models.adapters import merged
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.decode_kernels import decode_kernel
from jaxsearch.models.kernels import Target
from jaxsearch.models.row_kernels import row_attention
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.rewards.tasks import Task
from jaxsearch.rl.objectives import Objective
from jaxsearch.rl.optimizer import make_optimizer
from jaxsearch.rl.update import Updater
from jaxsearch.rollout.budgets import Budgets, row_buckets
from jaxsearch.rollout.decode import Programs
from jaxsearch.rollout.episode import Sampler
from jaxsearch.rollout.layout import on_replica, replica_meshes
from jaxsearch.rollout.sampling import TopKTopP
from jaxsearch.rollout.stop import stop_table
from jaxsearch.run.inputs import Inputs, load_inputs, open_indexes
from jaxsearch.run.policy import (
    Policy,
    padded_vocab,
    read_architecture,
    read_params,
)
from jaxsearch.run.weight_sync import WeightSync
from jaxsearch.search.exact_index import EmptyIndex
from jaxsearch.search.index import Index


def run_architecture(model: ModelConfig, tokenizer: Tokenizer) -> Architecture:
    """The sizes of a config's network.

    Errors: ValueError for sizes that do not fit, or a tokenizer with more ids than the
    model has embeddings.
    """
    if model.path:
        architecture = read_architecture(model.path)
        if tokenizer.num_ids > architecture.vocab_size:
            raise ValueError(
                f"the tokenizer has {tokenizer.num_ids} ids but model {model.path} "
                f"only {architecture.vocab_size}; use the tokenizer of that model"
            )
        return architecture
    return sized_architecture(model, padded_vocab(tokenizer))


def sized_architecture(model: ModelConfig, vocab_size: int) -> Architecture:
    """The network of random weights, by the sizes of a config."""
    return Architecture(
        vocab_size=vocab_size,
        width=model.width,
        mlp_width=model.mlp_width,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        num_kv_heads=model.num_kv_heads,
        head_width=model.head_width,
        rope_theta=model.rope_theta,
        has_qkv_bias=model.has_qkv_bias,
        has_qk_norm=model.has_qk_norm,
        has_tied_head=model.has_tied_head,
    )


def make_transformer(
    model: ModelConfig, architecture: Architecture, mesh: jax.sharding.Mesh
) -> Transformer:
    """The network of a config, to be trained on this mesh, without parameters.

    Raises:
      ValueError: for an attention kernel that the devices cannot run.
    """
    target = Target(
        platform=meshes.platform(mesh),
        dtype=model.dtype,
        head_width=architecture.head_width,
        has_segments=model.pack_sequences,
        has_windows=architecture.local_attention is not None,
    )
    return Transformer(
        architecture=architecture,
        dtype=jnp.dtype(model.dtype),
        remat=model.remat,
        attention=row_attention(
            model.attention, target, meshes.attention_sharding(mesh)
        ),
        decode_kernel=decode_kernel(model.decode_attention, target),
        is_packed=model.pack_sequences,
        lora=model.lora,
        activation_sharding=meshes.activation_sharding(mesh),
    )


@dataclasses.dataclass(frozen=True)
class _Forward:
    """Whole rows to hidden states; equal for equal networks, as a closure is not."""

    transformer: Transformer

    def __call__(self, params: Params, tokens: Any, segments: Any) -> Any:
        return self.transformer.hidden(params, tokens, segments)


@dataclasses.dataclass(frozen=True)
class _Head:
    """Parameters to the head's matrix, likewise."""

    transformer: Transformer

    def __call__(self, params: Params) -> Any:
        return self.transformer.head(params)


def param_shardings(
    transformer: Transformer, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
) -> Any:
    """Where each parameter lies in training."""
    return meshes.shardings(mesh, transformer.logical_axes, transformer.shapes)


def make_updater(
    transformer: Transformer,
    mesh: jax.sharding.Mesh,
    stage: SupervisedStage | RLStage,
    objective: Objective,
    temperature: float,
    frozen: Params,
) -> Updater:
    """The update of a stage; its schedule spans the stage's configured steps."""
    head = param_shardings(transformer, mesh)[transformer.head_name]
    return Updater(
        forward=_Forward(transformer),
        head=_Head(transformer),
        objective=objective,
        optimizer=make_optimizer(stage.optimizer, stage.num_updates),
        temperature=temperature,
        head_sharding=meshes.head_sharding(mesh, head),
        frozen=frozen,
    )


def rollout_budgets(rollout: RolloutConfig) -> Budgets:
    """The budgets of a config's rollouts."""
    return Budgets(
        num_slots=rollout.num_slots,
        max_len=rollout.max_len,
        max_prompt_len=rollout.max_prompt_len,
        max_turn_len=rollout.max_turn_len,
        max_observation_len=rollout.max_observation_len,
        max_searches=rollout.max_searches,
        search_calls=rollout.search_calls,
        cache_len=rollout.cache_len,
    )


def rollout_programs(
    config: RunConfig, transformer: Transformer, end_ids: Sequence[int]
) -> Programs:
    """The device programs of a config's rollouts.

    Args:
      transformer: as it runs on a replica.
      end_ids: of the tokenizer.
    """
    rollout = config.rollout
    return Programs(
        transformer=transformer,
        end_ids=tuple(end_ids),
        max_turn_len=rollout.max_turn_len,
        truncation=TopKTopP(top_k=rollout.top_k, top_p=rollout.top_p),
        seed=config.seed,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A config with its inputs, network, indexes and compiled programs."""

    config: RunConfig
    inputs: Inputs
    transformer: Transformer
    mesh: jax.sharding.Mesh

    @property
    def task(self) -> Task:
        return self.config.task

    def initial_params(self) -> Params:
        """From the Hugging Face folder, or drawn from the seed; new adapters."""
        config, key = self.config, jax.random.key(self.config.seed)
        if config.model.path:
            params = read_params(
                config.model.path, self.transformer, self.param_shardings
            )
            places = self.param_shardings
            places = {k: v for k, v in places.items() if k not in params}
            params |= jax.jit(self.transformer.init_adapters, out_shardings=places)(key)
        else:
            # Where it belongs from the start: it may be too large for one device.
            params = jax.jit(self.transformer.init, out_shardings=self.param_shardings)(
                key
            )
        return params

    @functools.cached_property
    def param_shardings(self) -> Any:
        return param_shardings(self.transformer, self.mesh)

    def rollout_params(self, params: Params) -> Params:
        """Parameters in the layout of rollouts; waits until they are there."""
        return jax.block_until_ready(self.weight_sync(params))

    @functools.cached_property
    def replicas(self) -> tuple[jax.sharding.Mesh, ...]:
        """The devices of this process, as rollouts share them."""
        rollout = self.config.rollout
        return replica_meshes(self.mesh.local_devices, rollout.tensor, rollout.replicas)

    @functools.cached_property
    def rollout_transformer(self) -> Transformer:
        """The network as it runs on each replica."""
        return on_replica(self.transformer, self.replicas[0])

    @functools.cached_property
    def weight_sync(self) -> WeightSync:
        return WeightSync(self.rollout_transformer, self.mesh)

    @functools.cached_property
    def sampler(self) -> Sampler:
        config, inputs = self.config, self.inputs
        rollout = config.rollout
        programs = rollout_programs(
            config, self.rollout_transformer, inputs.tokenizer.end_ids
        )
        budgets = rollout_budgets(rollout)
        table = stop_table(
            inputs.tokenizer.id_bytes,
            inputs.protocol.stop_tags,
            self.transformer.architecture.vocab_size,
        )
        return Sampler(
            programs,
            budgets,
            inputs.protocol,
            inputs.tokenizer,
            table,
            replicas=self.replicas,
        )

    @functools.cached_property
    def _indexes(self) -> tuple[RetryingIndex, RetryingIndex]:
        retrieval = self.config.retrieval
        train, heldout = (
            RetryingIndex(
                index, attempts=retrieval.attempts, timeout_s=retrieval.timeout_s
            )
            for index in open_indexes(self.config, self.inputs)
        )
        return train, heldout

    @property
    def num_retries(self) -> int:
        """Tries of training's searches beyond each first one, so far."""
        return self._indexes[0].num_retries

    @functools.cached_property
    def observer(self) -> Observer:
        """Answers the queries of training."""
        return self._observer(self._indexes[0])

    @functools.cached_property
    def heldout_observer(self) -> Observer:
        """Answers queries about held-out questions."""
        return self._observer(self._indexes[1])

    @functools.cached_property
    def empty_observer(self) -> Observer:
        """Finds nothing, ever: what the policy knows without its index."""
        return self._observer(EmptyIndex())

    def _observer(self, index: Index) -> Observer:
        return Observer(
            index=index,
            protocol=self.inputs.protocol,
            tokenizer=self.inputs.tokenizer,
            num_passages=self.config.retrieval.num_passages,
            max_observation_len=self.config.rollout.max_observation_len,
            on_search_failure=self.config.rollout.on_search_failure,
            has_reminder=self.config.rollout.has_reminder,
        )

    def updater(
        self,
        stage: SupervisedStage | RLStage,
        objective: Objective,
        temperature: float,
        frozen: Params,
    ) -> Updater:
        """The update of a stage; its schedule spans the stage's configured steps."""
        return make_updater(
            self.transformer, self.mesh, stage, objective, temperature, frozen
        )

    @property
    def row_lens(self) -> tuple[int, ...]:
        """Row lengths that updates are compiled for."""
        return row_buckets(self.config.rollout.max_len)

    def policy(self, params: Params) -> Policy:
        """The run's network and tokenizer with these parameters, adapters merged."""
        return Policy(
            transformer=self.transformer,
            tokenizer=self.inputs.tokenizer,
            params=merged(self.transformer.lora, params),
        )


def open_run(config: RunConfig) -> Run:
    """Reads and checks everything that a run needs; writes nothing.

    Errors: ValueError, in one line, for whatever does not fit.
    """
    inputs = load_inputs(config)
    mesh = meshes.make_mesh(config.mesh)
    architecture = run_architecture(config.model, inputs.tokenizer)
    run = Run(
        config=config,
        inputs=inputs,
        transformer=make_transformer(config.model, architecture, mesh),
        mesh=mesh,
    )
    # All say what does not fit, before anything is computed or written.
    _ = run.param_shardings, run.weight_sync
    if config.retrieval.index and not Path(config.retrieval.index).is_dir():
        raise ValueError(f"index folder {config.retrieval.index} does not exist")
    return run
