"""A served model, and the config of its rollouts."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxsearch.config import (
    DataConfig,
    ModelConfig,
    RetrievalConfig,
    RLStage,
    RolloutConfig,
    RunConfig,
)
from jaxsearch.data.dataset import no_dataset
from jaxsearch.data.tokenizer_files import read_json
from jaxsearch.models.hub import TOKENIZER, local_folder
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.rewards.tasks import task_named
from jaxsearch.run.config_record import trust_servers
from jaxsearch.run.folder import read_run_config
from jaxsearch.run.loading import is_run, with_policy
from jaxsearch.run.model_config import model_budgets
from jaxsearch.served.client import ServerSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A served model, as given by the user.

    Attributes:
      url: address of the server, http://HOST:PORT/v1.
      name: name of the model on the server; "" for its only model.
      tokenizer: a Hugging Face folder or id with the model's tokenizer; or the folder
        of a run whose policy is served, which also has task, index, questions and
        budgets.
      settings: timeouts and attempts of requests.
      logprobs: whether to request the log-probs of the sampled tokens.
    """

    url: str
    name: str = ""
    tokenizer: str
    settings: ServerSettings = ServerSettings()
    logprobs: bool = False


def served_config(model: ServedModel, task: str = "") -> RunConfig:
    """The config for rollouts of a served model: the run's, or ReSearch's budgets.

    Args:
      model: the model.
      task: name of the task of a model without a run; "" for research.

    Raises:
      ValueError: if the run's record cannot be read, or the task is unknown.
    """
    if is_run(model.tokenizer):
        return read_run_config(Path(model.tokenizer))
    folder = local_folder(model.tokenizer, "tokenizer", TOKENIZER)
    positions = read_json(folder / "config.json").get("max_position_embeddings")
    stage: Any = RLStage(name="none", steps=1, task=task_named(task or "research"))
    return RunConfig(
        model=ModelConfig(tokenizer=model.tokenizer),
        data=DataConfig(source=no_dataset),
        retrieval=RetrievalConfig(),
        rollout=model_budgets(positions if isinstance(positions, int) else None),
        stages=(stage,),
        out=model.tokenizer,
    )


def with_served_policy(config: RunConfig, model: ServedModel) -> RunConfig:
    """The config with the tokenizer of a served model; the rest stays the same.

    Raises:
      ValueError: for a run whose tokenizer was made from a different dataset.
    """
    if is_run(model.tokenizer):
        return with_policy(config, model.tokenizer)
    trust_servers(config)
    policy = dataclasses.replace(
        config.model, path="", tokenizer=model.tokenizer, lora=LoRAConfig()
    )
    return dataclasses.replace(config, model=policy)


def within(rollout: RolloutConfig, max_len: int, is_of_run: bool) -> RolloutConfig:
    """The budgets, reduced for a model with a shorter context.

    Raises:
      ValueError: if the prompts of a run do not fit.
    """
    if not is_of_run:
        budgets = model_budgets(max_len)
        return dataclasses.replace(budgets, max_searches=rollout.max_searches)
    try:
        return dataclasses.replace(rollout, max_len=max_len)
    except ValueError as error:
        raise ValueError(
            f"the context of the server's model is too short for this run: {error}"
        ) from None
