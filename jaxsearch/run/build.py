"""A run built from its config."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array

from jaxsearch import mesh as meshes
from jaxsearch.announce import Announce, silently
from jaxsearch.config import RLStage, RunConfig, SupervisedStage
from jaxsearch.id_ranges import IdRanges
from jaxsearch.models.adapters import merged, split
from jaxsearch.models.copied_page_attention import COPIED_PAGES
from jaxsearch.models.page_attention import PLAIN_PAGES
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.processes import say_once
from jaxsearch.rewards.tasks import Task
from jaxsearch.rl.objectives import Objective
from jaxsearch.rl.update import Updater
from jaxsearch.rollouts.budgets import Budgets, row_buckets
from jaxsearch.rollouts.episode import Sampler
from jaxsearch.rollouts.layout import on_replica, replica_meshes
from jaxsearch.rollouts.stop import stop_table
from jaxsearch.run.checkpoint import restore_params
from jaxsearch.run.checkpoint_choice import CheckpointChoice
from jaxsearch.run.environments import Environments
from jaxsearch.run.fingerprint import fingerprint
from jaxsearch.run.folder import check_frozen
from jaxsearch.run.inputs import Inputs, load_inputs
from jaxsearch.run.network import make_transformer, param_shardings, run_architecture
from jaxsearch.run.policy import Policy, read_params
from jaxsearch.run.prompting import with_opened
from jaxsearch.run.sampler import rollout_budgets, rollout_programs
from jaxsearch.run.signatures import check_signatures
from jaxsearch.run.updater import make_updater
from jaxsearch.run.warm_start import Origin, origin_of
from jaxsearch.run.weight_sync import WeightSync, weight_sync


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A config with its inputs, network, indexes and compiled programs.

    Attributes:
      config: the config of the run; its tasks know what prompts have opened.
      inputs: questions, passages and tokenizer, read from files.
      transformer: the network in training, without parameters.
      mesh: the mesh of training.
      announce: receives what is compiled.
    """

    config: RunConfig
    inputs: Inputs
    transformer: Transformer
    mesh: jax.sharding.Mesh
    announce: Announce = silently

    @property
    def task(self) -> Task:
        """The task that judges held-out questions."""
        return self.config.task

    def initial_params(self) -> Params:
        """Parameters from the model's folder or another run, or drawn from the seed.

        Adapters are always new.

        Raises:
          ValueError: if they are missing, damaged, or have other shapes.
        """
        config = self.config
        if config.model.path:
            origin = origin_of(config.model.path)
            if origin is None:
                params = read_params(
                    config.model.path, self.transformer, self.param_shardings
                )
            else:
                params = self._params_of(origin)
            missing = {
                name: sharding
                for name, sharding in self.param_shardings.items()
                if name not in params
            }
            if missing:
                init_adapters = self.transformer.init_adapters
                key = jax.random.key(config.seed)
                params |= jax.jit(init_adapters, out_shardings=missing)(key)
        else:
            params = self._init(jax.random.key(config.seed))
        return params

    @functools.cached_property
    def _init(self) -> Callable[[Array], Params]:
        """Draws parameters; compiled once, however often that is."""
        # Created with their shardings, because they may be too large for one device.
        return jax.jit(self.transformer.init, out_shardings=self.param_shardings)

    def _params_of(self, origin: Origin) -> Params:
        """Parameters of another run's checkpoint, with its adapters merged."""
        lora = origin.config.model.lora
        transformer = dataclasses.replace(self.transformer, lora=lora)
        theirs = dataclasses.replace(
            self, config=origin.config, transformer=transformer
        )
        return merged(lora, theirs.checkpoint_params(origin.checkpoint()))

    def checkpoint_params(self, choice: CheckpointChoice) -> Params:
        """Parameters of a checkpoint, with the weights under its adapters.

        Standard error names damaged checkpoints that would have been used instead.

        Raises:
          ValueError: if the checkpoint is damaged, or its adapters were trained on
            other weights.
        """
        if choice.notice:
            say_once(choice.notice)
        lora = self.transformer.lora
        wanted = jax.tree.map(
            lambda shape, sharding: shape.update(sharding=sharding),
            self.transformer.shapes,
            self.param_shardings,
        )
        trained = restore_params(choice.folder, split(lora, wanted)[1])
        if not lora.rank:
            return trained
        frozen, _ = split(lora, self.initial_params())
        check_frozen(Path(self.config.out), fingerprint(frozen))
        return frozen | trained

    @functools.cached_property
    def param_shardings(self) -> Any:
        """The sharding of each parameter in training."""
        return param_shardings(self.transformer, self.mesh)

    def rollout_params(self, params: Params) -> Params:
        """Parameters in the layout of rollouts; waits until the transfer is done."""
        return jax.block_until_ready(self.weight_sync(params))

    @functools.cached_property
    def replicas(self) -> tuple[jax.sharding.Mesh, ...]:
        """The devices of this process, grouped into replicas for rollouts."""
        rollout = self.config.rollout
        return replica_meshes(self.mesh.local_devices, rollout.tensor, rollout.replicas)

    @functools.cached_property
    def rollout_transformer(self) -> Transformer:
        """The network in the form that runs on each replica."""
        return on_replica(self.transformer, self.replicas[0])

    @functools.cached_property
    def weight_sync(self) -> WeightSync:
        """Copies parameters from the layout of training to that of rollouts."""
        return weight_sync(self.rollout_transformer, self.mesh)

    @functools.cached_property
    def sampler(self) -> Sampler:
        """Rolls out questions on this process's replicas."""
        budgets = rollout_budgets(self.config.rollout)
        return self._sampler(budgets, self.replicas, self.rollout_transformer)

    def sampler_for(self, num_rollouts: int) -> Sampler:
        """`sampler`, or one with fewer slots if they hold all rollouts at once.

        Args:
          num_rollouts: rollouts of all processes together.
        """
        num_replicas = len(self.replicas) * jax.process_count()
        needed = max(1, -(-num_rollouts // num_replicas))
        budgets = rollout_budgets(self.config.rollout)
        if needed >= budgets.num_slots:
            return self.sampler
        budgets = dataclasses.replace(budgets, num_slots=needed)
        return self._sampler(budgets, self.replicas, self.rollout_transformer)

    @functools.cached_property
    def single_sampler(self) -> Sampler:
        """Rolls out one answer at a time, with smaller programs that compile sooner."""
        budgets = dataclasses.replace(
            rollout_budgets(self.config.rollout), num_slots=1, cache_len=None
        )
        transformer = self.rollout_transformer
        if transformer.decode_kernel == PLAIN_PAGES:
            transformer = dataclasses.replace(transformer, decode_kernel=COPIED_PAGES)
        return self._sampler(budgets, self.replicas[:1], transformer)

    def _sampler(
        self,
        budgets: Budgets,
        replicas: tuple[jax.sharding.Mesh, ...],
        transformer: Transformer,
    ) -> Sampler:
        inputs = self.inputs
        programs = rollout_programs(
            self.config,
            transformer,
            inputs.tokenizer.end_ids,
            self.id_ranges,
        )
        table = stop_table(
            inputs.tokenizer.id_bytes,
            self.environments.stop_tags,
            self.transformer.architecture.vocab_size,
        )
        return Sampler(
            programs,
            budgets,
            inputs.protocol,
            inputs.tokenizer,
            table,
            replicas=replicas,
        )

    @functools.cached_property
    def id_ranges(self) -> IdRanges | None:
        """Ids that have a token; None if every row of the embedding has one.

        Other rows are never sampled, and have probability 0 in training.
        """
        ranges = self.inputs.tokenizer.id_ranges
        is_whole = ranges == ((0, self.transformer.architecture.vocab_size),)
        return None if is_whole else ranges

    @functools.cached_property
    def environments(self) -> Environments:
        """The tools that answer the policy, for training and for evaluation."""
        return Environments(self.config, self.inputs)

    def updater(
        self,
        stage: SupervisedStage | RLStage,
        objective: Objective,
        temperature: float,
        frozen: Params,
    ) -> Updater:
        """The update of a stage; its schedule covers the stage's configured steps."""
        return make_updater(
            self.transformer,
            self.mesh,
            stage,
            objective,
            temperature,
            frozen,
            self.announce,
            self.id_ranges,
        )

    @property
    def row_lens(self) -> tuple[int, ...]:
        """Row lengths that updates are compiled for; packed rows are all full."""
        max_len = self.config.rollout.max_len
        is_packed = self.config.model.pack_sequences
        return (max_len,) if is_packed else row_buckets(max_len)

    def policy(self, params: Params) -> Policy:
        """The run's network and tokenizer with these parameters, adapters merged."""
        return Policy(
            transformer=self.transformer,
            tokenizer=self.inputs.tokenizer,
            params=merged(self.transformer.lora, params),
        )


def open_run(config: RunConfig, announce: Announce = silently) -> Run:
    """Reads and checks all inputs of a run, without writing anything.

    Args:
      config: the run's config.
      announce: receives what the run compiles.

    Raises:
      ValueError: for the first invalid input, with a one-line message.
    """
    check_signatures(config)
    inputs = load_inputs(config)
    config = with_opened(config, inputs.protocol.opened)
    mesh = meshes.make_mesh(config.mesh)
    architecture = run_architecture(config.model, inputs.tokenizer)
    run = Run(
        config=config,
        inputs=inputs,
        transformer=make_transformer(config.model, architecture, mesh),
        mesh=mesh,
        announce=announce,
    )
    # Evaluated now so that errors are raised before anything is computed or written.
    _ = run.param_shardings, run.weight_sync, run.environments
    if config.retrieval.index and not Path(config.retrieval.index).is_dir():
        raise ValueError(f"index folder {config.retrieval.index} does not exist")
    return run
