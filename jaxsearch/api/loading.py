"""Loading a policy from a model, a run or an architecture."""

import dataclasses
from pathlib import Path

from jax.sharding import Mesh

from jaxsearch.api.policy import Policy, as_mesh
from jaxsearch.api.session import make_run
from jaxsearch.config import (
    DataConfig,
    ModelConfig,
    RetrievalConfig,
    RLStage,
    RolloutConfig,
    RunConfig,
)
from jaxsearch.data.dataset import no_dataset
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.mesh import MeshShape
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.hub import PACKAGED
from jaxsearch.rewards.tasks import QUICKSTART, RESEARCH
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.folder import read_run_config
from jaxsearch.run.loading import is_run
from jaxsearch.run.model_config import model_budgets
from jaxsearch.run.network import run_architecture
from jaxsearch.run.prompting import load_prompting


def load_policy(
    source: str | Path | ModelConfig | Architecture,
    *,
    tokenizer: str | Tokenizer = "",
    checkpoint: str = "",
    mesh: Mesh | MeshShape | None = None,
    seed: int = 0,
) -> Policy:
    """Loads a policy, or makes one with random weights; writes nothing.

    Args:
      source: a Hugging Face folder or Hub id; the folder of a run; the packaged
        `jaxsearch:quickstart`; a `ModelConfig`, for LoRA, bfloat16, another prompt or
        random weights of its sizes; or an `Architecture`, for random weights.
      tokenizer: folder or Hub id of a tokenizer, or a tokenizer; "" for that of the
        policy. Random weights need one.
      checkpoint: best, last or a step of a run; "" for the best if the run has one,
        else the last.
      mesh: the devices to load it on, as in `shard`; None for JAX's first device. In
        several processes, a mesh must have the devices of all of them.
      seed: seed of random weights and new adapters; a run has a seed of its own.

    Raises:
      ValueError: if the source or the tokenizer cannot be read, they do not fit each
        other, or there are too few devices for the mesh.

    Example:
      >>> jaxsearch.load_policy("jaxsearch:quickstart")
      Policy('jaxsearch:quickstart', ... parameters in 3 layers, task 'quickstart', ...)

      Random weights:

      >>> sizes = jaxsearch.ModelConfig(width=32, mlp_width=64, num_layers=1)
      >>> jaxsearch.load_policy(sizes, tokenizer="jaxsearch:quickstart")
      Policy('random weights', ... parameters in 1 layer, task 'research', ...)
    """
    on = as_mesh(mesh)
    name = str(source) if isinstance(source, str | Path) else ""
    choice = None
    if name and is_run(name):
        config = _config_of_run(name)
        choice = choose_checkpoint(config, checkpoint)
    elif checkpoint:
        raise ValueError(
            f"checkpoint {checkpoint!r} is one of a run, but {source!r:.80} is not the "
            "folder of a run"
        )
    else:
        model = source if isinstance(source, ModelConfig) else ModelConfig(path=name)
        config = _config_of_model(model, seed)
    if isinstance(tokenizer, str):
        config, tokenizer = _with_tokenizer(config, tokenizer)
    if isinstance(source, Architecture):
        architecture = source
        _check_vocabulary(architecture, tokenizer)
    else:
        architecture = run_architecture(config.model, tokenizer)
    if config.model.path and choice is None:
        budgets = model_budgets(architecture.max_positions)
        config = dataclasses.replace(config, rollout=budgets)
    run = make_run(config, tokenizer, architecture, on)
    params = run.initial_params() if choice is None else run.checkpoint_params(choice)
    return Policy(
        name=name or config.model.path or "random weights",
        config=config,
        architecture=architecture,
        tokenizer=tokenizer,
        params=params,
        mesh=on,
    )


def _config_of_run(folder: str) -> RunConfig:
    """The config of a run, with the attention kernels of these devices."""
    config = read_run_config(Path(folder))
    model = dataclasses.replace(config.model, attention=None, decode_attention=None)
    return dataclasses.replace(config, model=model)


def _config_of_model(model: ModelConfig, seed: int) -> RunConfig:
    """Settings for a policy without a run."""
    # The packaged policies read one passage, in one line.
    is_packaged = model.path in PACKAGED
    task, num_passages = (QUICKSTART, 1) if is_packaged else (RESEARCH, 5)
    return RunConfig(
        model=model,
        data=DataConfig(source=no_dataset),
        retrieval=RetrievalConfig(num_passages=num_passages),
        rollout=RolloutConfig(num_slots=8),
        stages=(RLStage(name="none", steps=1, task=task),),
        seed=seed,
    )


def _with_tokenizer(config: RunConfig, folder: str) -> tuple[RunConfig, Tokenizer]:
    """The config with another tokenizer, unless the folder is "", and its tokenizer.

    Raises:
      ValueError: if there is no tokenizer, or it cannot be read.
    """
    if folder:
        model = dataclasses.replace(config.model, tokenizer=folder)
        config = dataclasses.replace(config, model=model)
    made = None
    if not (config.model.tokenizer or config.model.path):
        # A run without a model's folder has the tokenizer of its dataset.
        made = config.data.source(Path(config.out), config.seed).tokenizer
        if made is None:
            raise ValueError(
                "random weights need a tokenizer: give tokenizer=, a folder or Hub id "
                "(such as jaxsearch:quickstart)"
            )
    return config, load_prompting(config, made)[0]


def _check_vocabulary(architecture: Architecture, tokenizer: Tokenizer) -> None:
    """Checks that every id of the tokenizer has an embedding.

    Raises:
      ValueError: if one has none.
    """
    if tokenizer.num_ids > architecture.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.num_ids} ids, but vocab_size is only "
            f"{architecture.vocab_size}; raise it"
        )
