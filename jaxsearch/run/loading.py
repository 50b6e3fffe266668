"""Loading a policy from a run's folder or a Hugging Face folder."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from jaxsearch.config import RunConfig
from jaxsearch.mesh import MeshShape
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.models.transformer import Params
from jaxsearch.processes import say_once
from jaxsearch.rewards.tasks import task_named
from jaxsearch.run.build import Run, open_run
from jaxsearch.run.checkpoint import CHECKPOINT_FOLDER
from jaxsearch.run.checkpoint_choice import CheckpointChoice, choose_checkpoint
from jaxsearch.run.config_record import trust_config, trust_servers
from jaxsearch.run.config_values import recorded, value_text
from jaxsearch.run.folder import read_run_config
from jaxsearch.run.long_prompts import LongPromptsError
from jaxsearch.run.model_config import model_config
from jaxsearch.run.options import NO_CHANGES, RunOptions, with_options


def is_run(folder: str) -> bool:
    """Whether the folder was written by `jaxsearch train`."""
    return (Path(folder) / CHECKPOINT_FOLDER).is_dir()


def load_run(
    model: str, options: RunOptions = NO_CHANGES, *, checkpoint: str = ""
) -> tuple[Run, Params]:
    """Loads a policy on the devices of this machine, with the inputs it needs.

    A run has a task, held-out questions and an index; a Hugging Face model has none of
    these and gets ReSearch's budgets. Standard error says which checkpoint of a run was
    loaded.

    Args:
      model: a run's folder, a Hugging Face folder, or a Hugging Face id.
      options: changes to the run, with at most one file of questions.
      checkpoint: checkpoint of a run: best (exact match on its held-out questions),
        last, or a step; "" for the best if the run has one, else the last.

    Returns:
      The run, and its parameters in the layout of rollouts.

    Raises:
      ValueError: if an input is missing or invalid.

    Example:
      >>> run, params = jaxsearch.load_run("runs/quickstart")
      >>> run.task.name, len(run.inputs.heldout) > 0
      ('quickstart', True)
    """
    choice = None
    if is_run(model):
        config = read_run_config(Path(model))
        choice = choose_checkpoint(config, checkpoint)
    else:
        _check_model_folder(model, checkpoint)
        config = model_config(model, task_named(options.task or "research"))
    config = with_options(config, options)
    with explained_long_prompts(config):
        run = open_anywhere(config)
    params = run.initial_params() if choice is None else loaded_params(run, choice)
    return run, run.rollout_params(params)


@contextlib.contextmanager
def explained_long_prompts(config: RunConfig) -> Iterator[None]:
    """Context in which the error for long prompts names options of `eval`."""
    try:
        yield
    except LongPromptsError as error:
        advice = "give a shorter prompt with --prompt-template"
        if not config.data.drop_long_prompts:
            # `jaxsearch ask` has no such option.
            advice += ", or drop these questions with `eval --drop-long-prompts`"
        raise ValueError(f"{error.found}; {advice}") from None


def with_policy(config: RunConfig, model: str) -> RunConfig:
    """The config with another policy, from a run or a Hugging Face folder or id.

    Questions, task, index and budgets stay the same.

    Raises:
      ValueError: for a folder that is neither, or a run whose tokenizer was made from
        a different dataset than the config's.
    """
    if not is_run(model):
        trust_servers(config)
        _check_model_folder(model)
        policy = dataclasses.replace(config.model, path=model, lora=LoRAConfig())
        return dataclasses.replace(config, model=policy)
    trust_config(config)
    theirs = read_run_config(Path(model))
    of_dataset = not (theirs.model.path or theirs.model.tokenizer)
    kind = Callable[..., Any]
    # Two partials of one function are not equal, what is recorded of them is.
    there = (recorded(theirs.data.source, kind), theirs.seed)
    if of_dataset and there != (recorded(config.data.source, kind), config.seed):
        raise ValueError(
            f"{model} has a tokenizer made of its own dataset "
            f"({value_text(theirs.data.source, kind)} of seed {theirs.seed}), and this "
            f"config brings another ({value_text(config.data.source, kind)} of seed "
            f"{config.seed}); use the run's config, and its --seed"
        )
    return dataclasses.replace(config, model=theirs.model)


def policy_params(run: Run, model: str, checkpoint: str = "") -> Params:
    """Parameters of the policy that `with_policy` put into this run's config.

    Args:
      checkpoint: best, last or a step, as in `load_run`.

    Raises:
      ValueError: if they are missing or do not match the config.
    """
    if not is_run(model):
        _check_model_folder(model, checkpoint)
        return run.initial_params()
    theirs = read_run_config(Path(model))
    config = dataclasses.replace(run.config, out=model, seed=theirs.seed)
    choice = choose_checkpoint(theirs, checkpoint)
    return loaded_params(dataclasses.replace(run, config=config), choice)


def open_anywhere(config: RunConfig) -> Run:
    """Opens a run for inference, on any number of devices."""
    num_devices, num_local = jax.device_count(), jax.local_device_count()
    tensor = config.rollout.tensor if num_local % config.rollout.tensor == 0 else 1
    replicas = config.rollout.replicas
    if replicas is not None and replicas * tensor > num_local:
        replicas = None
    sizes = dataclasses.asdict(config.mesh).values()
    fits = math.prod(size or 1 for size in sizes) == num_devices
    return open_run(
        dataclasses.replace(
            config,
            model=dataclasses.replace(
                config.model, attention=None, decode_attention=None
            ),
            mesh=config.mesh if fits else MeshShape(data=num_devices, fsdp=1),
            rollout=dataclasses.replace(
                config.rollout, tensor=tensor, replicas=replicas
            ),
        )
    )


def loaded_params(run: Run, choice: CheckpointChoice) -> Params:
    """Parameters of a run's checkpoint; standard error says which one it is."""
    say_once(f"{run.config.out}: {choice.description}")
    return run.checkpoint_params(choice)


def _check_model_folder(model: str, checkpoint: str = "") -> None:
    """Checks that a folder has a model; any other name may be a Hugging Face id.

    Raises:
      ValueError: if it has none, or a checkpoint is named.
    """
    if Path(model).exists() and not (Path(model) / "config.json").is_file():
        raise ValueError(f"{model} is neither a run's folder nor a Hugging Face folder")
    if checkpoint:
        raise ValueError(
            f"--checkpoint {checkpoint} is for a run's folder; {model} is a Hugging "
            "Face model, which has no checkpoints"
        )
