"""A trained policy to use: from a run's folder or a Hugging Face folder."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax

from jaxsearch.checkpoint import Checkpoints
from jaxsearch.config import (
    DataConfig,
    ModelConfig,
    RetrievalConfig,
    RLStage,
    RolloutConfig,
    RunConfig,
)
from jaxsearch.data.material import Material
from jaxsearch.fingerprint import fingerprint
from jaxsearch.mesh import MeshShape
from jaxsearch.models.adapters import split
from jaxsearch.models.transformer import Params
from jaxsearch.rewards.recipes import recipe_named
from jaxsearch.run import Run, open_run
from jaxsearch.run_folder import check_frozen, read_run_config

# Of a policy that brings no run: ReSearch's row length, at one slot in eight.
_BUDGETS = RolloutConfig(
    num_slots=8,
    max_len=8704,
    max_prompt_len=512,
    max_turn_len=8192,
    max_observation_len=2048,
    max_searches=16,
)


def no_material(run_folder: Path, seed: int) -> Material:
    """For policies that come without questions or passages."""
    return Material(questions=[], passages=[])


def is_run(folder: str) -> bool:
    """Whether the folder is one that `jaxsearch train` writes."""
    return (Path(folder) / "checkpoints").is_dir()


def load_run(
    model: str,
    *,
    recipe: str = "",
    questions: str = "",
    index: str = "",
    limit: int = 0,
    prompt_template: str = "",
) -> tuple[Run, Params]:
    """A policy with what it needs to answer, on the devices that there are.

    A run brings its own recipe, held-out questions and index where none is named; a
    Hugging Face folder brings none, and gets ReSearch's budgets.

    Errors: ValueError for whatever is missing.
    """
    if is_run(model):
        config = read_run_config(Path(model))
    elif (Path(model) / "config.json").is_file() or not Path(model).exists():
        config = _config_of(model, recipe or "research")
    else:
        raise ValueError(f"{model} is neither a run's folder nor a Hugging Face folder")
    if questions:
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, heldout=questions)
        )
    if index:
        retrieval = dataclasses.replace(config.retrieval, index=index, corpus="")
        config = dataclasses.replace(config, retrieval=retrieval)
    if recipe:
        recipe_named(recipe)
        stages = tuple(
            dataclasses.replace(s, recipe=recipe) if isinstance(s, RLStage) else s
            for s in config.stages
        )
        config = dataclasses.replace(config, stages=stages)
    if prompt_template:
        policy = dataclasses.replace(config.model, prompt_template=prompt_template)
        config = dataclasses.replace(config, model=policy)
    config = dataclasses.replace(
        config, eval=dataclasses.replace(config.eval, limit=limit)
    )
    run = open_anywhere(config)
    params = latest_params(run) if is_run(model) else run.initial_params()
    return run, run.published(params)[0]


def open_anywhere(config: RunConfig) -> Run:
    """The run on devices that may not be those it was trained on: not to train it."""
    num_devices, num_local = jax.device_count(), jax.local_device_count()
    tensor = config.rollout.tensor if num_local % config.rollout.tensor == 0 else 1
    replicas = config.rollout.replicas
    if replicas is not None and replicas * tensor > num_local:
        replicas = None
    sizes = dataclasses.asdict(config.mesh).values()
    is_there = math.prod(size or 1 for size in sizes) == num_devices
    return open_run(
        dataclasses.replace(
            config,
            model=dataclasses.replace(config.model, attention="auto"),
            mesh=config.mesh if is_there else MeshShape(data=num_devices, fsdp=1),
            rollout=dataclasses.replace(
                config.rollout, tensor=tensor, replicas=replicas
            ),
        )
    )


def latest_params(run: Run) -> Params:
    """Parameters of the run's newest checkpoint, with the weights under its adapters.

    Errors: ValueError if it has none, or those weights are not what they were.
    """
    lora = run.transformer.lora
    wanted = jax.tree.map(
        lambda shape, place: shape.update(sharding=place),
        run.transformer.shapes,
        run.param_shardings,
    )
    checkpoints = Checkpoints(Path(run.config.out), keep=run.config.checkpoint.keep)
    try:
        progress = checkpoints.latest()
        if progress is None:
            raise ValueError(f"{run.config.out} has no checkpoint yet")
        trained = checkpoints.restore_params(progress.step, split(lora, wanted)[1])
    finally:
        checkpoints.close()
    if not lora.rank:
        return trained
    frozen, _ = split(lora, run.initial_params())
    check_frozen(Path(run.config.out), fingerprint(frozen))
    return frozen | trained


def _config_of(model: str, recipe: str) -> RunConfig:
    """A config that only evaluates."""
    stage: Any = RLStage(name="none", steps=1, recipe=recipe)
    return RunConfig(
        model=ModelConfig(path=model),
        data=DataConfig(material=no_material),
        retrieval=RetrievalConfig(),
        rollout=_BUDGETS,
        stages=(stage,),
        out=model,
    )
