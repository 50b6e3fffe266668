"""A model folder without weights, and a small run of it."""

import json

import pytest

from jaxsearch.config import (
    DataConfig,
    ModelConfig,
    RLStage,
    RolloutConfig,
    RunConfig,
)
from jaxsearch.data import sample
from jaxsearch.mesh import MeshShape


@pytest.fixture
def model_folder(tmp_path):
    """A folder with only a config.json."""
    config = {
        "model_type": "qwen2",
        "vocab_size": 256,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
    }
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def config(model_folder):
    return RunConfig(
        model=ModelConfig(path=str(model_folder)),
        data=DataConfig(source=sample.dataset),
        rollout=RolloutConfig(
            num_slots=8,
            max_len=64,
            max_prompt_len=16,
            max_turn_len=16,
            max_observation_len=16,
            tensor=2,
        ),
        stages=(RLStage(name="search", steps=1, max_tokens=512),),
        mesh=MeshShape(fsdp=4, tensor=2),
    )
