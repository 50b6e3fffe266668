"""A run small enough for a test: the quickstart's world with a tiny policy."""

import dataclasses
import functools
import itertools
import random
from collections.abc import Mapping
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
from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.data.world import (
    PRACTICE_SHARES,
    QUESTION_SHARES,
    World,
    make_names,
    make_world,
)
from jaxsearch.protocol import QUICKSTART
from jaxsearch.rewards import tasks
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig


@functools.cache
def worlds(seed: int) -> tuple[World, list[World], list[World]]:
    """A held-out world, two training worlds and three of demonstrations.

    The quickstart has 365 of them, which take four seconds.
    """
    rng, names = random.Random(f"tiny-{seed}"), iter(make_names())

    def world(prefix: str, shares: Mapping[str, float] = QUESTION_SHARES) -> World:
        own = list(itertools.islice(names, 100))
        return make_world(rng, own, 100, prefix=prefix, shares=shares)

    return (
        world("heldout"),
        [world(f"world{i}") for i in range(2)],
        [world(f"practice{i}", PRACTICE_SHARES) for i in range(3)],
    )


def dataset(run_folder: Path | None, seed: int) -> Dataset:
    """Training worlds, the held-out world and a tokenizer, as the quickstart's."""
    heldout, training, practice = worlds(seed)
    return Dataset(
        questions=[question for world in training for question in world.questions],
        passages=[passage for world in training for passage in world.passages],
        tokenizer=quickstart.make_tokenizer([heldout, *training, *practice]),
        heldout=list(heldout.questions),
        heldout_passages=list(heldout.passages),
    )


def reading_demonstrations(seed: int) -> list[Demonstration]:
    """Correct demonstrations of one-hop questions."""
    return [
        quickstart.demonstrate(question, passages, num_hops=1, protocol=QUICKSTART)
        for question, passages in quickstart.with_passages(worlds(seed)[2], ["1"])
    ]


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
            search_calls=1,
            # One of eight virtual devices; other tests cover runs on more.
            replicas=1,
        ),
        stages=(
            SupervisedStage(
                name="read",
                demonstrations=reading_demonstrations,
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
                skips_without_advantage=False,
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
