"""A run small enough for a test: the quickstart's world with a tiny policy."""

import dataclasses
from pathlib import Path

from jaxsearch.config import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LoggingConfig,
    ModelConfig,
    RetrievalConfig,
    RLStage,
    RolloutConfig,
    RunConfig,
    SupervisedStage,
)
from jaxsearch.data import quickstart
from jaxsearch.data.dataset import Dataset
from jaxsearch.data.quickstart_worlds import heldout_and_training_worlds
from jaxsearch.rewards import tasks
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig


def dataset(run_folder: Path | None, seed: int) -> Dataset:
    """The quickstart's, with two of its 64 training worlds.

    Storing and checking 12,800 questions took half of the time of a tiny run.
    """
    _, worlds = heldout_and_training_worlds(seed)
    return dataclasses.replace(
        quickstart.dataset(run_folder, seed),
        questions=[question for world in worlds[:2] for question in world.questions],
        passages=[passage for world in worlds[:2] for passage in world.passages],
    )


def tiny_config(out: Path, **changes) -> RunConfig:
    """A config with three supervised and four RL steps, KL, and evaluations."""
    config = RunConfig(
        model=ModelConfig(
            width=32,
            mlp_width=64,
            num_layers=1,
            num_heads=2,
            num_kv_heads=1,
            head_width=16,
            rope_theta=100.0,
        ),
        data=DataConfig(source=dataset),
        retrieval=RetrievalConfig(num_passages=1, dims=128),
        rollout=RolloutConfig(
            num_slots=8,
            max_len=120,
            max_prompt_len=28,
            max_turn_len=28,
            max_observation_len=28,
            max_searches=3,
            # One of eight virtual devices; other tests cover runs on more.
            replicas=1,
        ),
        stages=(
            SupervisedStage(
                name="read",
                demonstrations=quickstart.reading_demonstrations,
                steps=3,
                batch_size=4,
                max_tokens=512,
                optimizer=OptimizerConfig(learning_rate=1e-3),
            ),
            RLStage(
                name="search",
                steps=4,
                task=tasks.QUICKSTART,
                questions_per_step=3,
                group_size=4,
                max_tokens=512,
                # The entropy bonus changes parameters even while all rewards are equal.
                objective=PolicyObjective(kl_weight=0.01, entropy_weight=0.01),
                optimizer=OptimizerConfig(learning_rate=1e-3),
            ),
        ),
        eval=EvalConfig(every=2, limit=6),
        logging=LoggingConfig(wandb="disabled", rollouts_every=1),
        checkpoint=CheckpointConfig(every=2),
        out=str(out),
    )
    return dataclasses.replace(config, **changes)
