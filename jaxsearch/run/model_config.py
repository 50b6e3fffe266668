"""The config of a Hugging Face model that was not trained by a run."""

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
from jaxsearch.rewards.tasks import Task
from jaxsearch.run.policy import read_architecture

# ReSearch's budgets, in tokens, for models with enough positions.
_MAX_LEN = 8704
_MAX_PROMPT_LEN = 512
_MAX_OBSERVATION_LEN = 2048


def model_config(model: str, task: Task) -> RunConfig:
    """A config for evaluating a Hugging Face model, with budgets that it can hold.

    Raises:
      ValueError: if there is no config.json, or its architecture is not supported.
    """
    stage: Any = RLStage(name="none", steps=1, task=task)
    return RunConfig(
        model=ModelConfig(path=model),
        data=DataConfig(source=no_dataset),
        retrieval=RetrievalConfig(),
        rollout=model_budgets(read_architecture(model).max_positions),
        stages=(stage,),
        out=model,
    )


def model_budgets(max_positions: int | None) -> RolloutConfig:
    """ReSearch's budgets for eight slots, reduced for a model with fewer positions.

    Args:
      max_positions: positions that the model was trained on; None if unknown.
    """
    max_len = min(_MAX_LEN, max_positions or _MAX_LEN)
    max_prompt_len = min(_MAX_PROMPT_LEN, max_len // 4)
    return RolloutConfig(
        num_slots=8,
        max_len=max_len,
        max_prompt_len=max_prompt_len,
        max_turn_len=max_len - max_prompt_len,
        max_observation_len=min(_MAX_OBSERVATION_LEN, max_len // 3),
        max_searches=16,
    )
