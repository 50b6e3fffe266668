"""The quickstart as it was at commit c19b706: three warm-up stages, then RL."""

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
from jaxsearch.mesh import MeshShape
from jaxsearch.rewards import tasks
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig


def warm_up(name, demonstrations, steps, learning_rate) -> SupervisedStage:
    """An imitation stage with these demonstrations, steps and learning rate."""
    return SupervisedStage(
        name=name,
        demonstrations=demonstrations,
        steps=steps,
        batch_size=32,
        max_tokens=1024,
        optimizer=OptimizerConfig(
            learning_rate=learning_rate,
            warmup_steps=20,
            final_share=0.1,
            beta2=0.98,
            weight_decay=0.1,
        ),
    )


config = RunConfig(
    model=ModelConfig(
        width=128,
        mlp_width=256,
        num_layers=3,
        num_heads=4,
        num_kv_heads=4,
        head_width=32,
        has_tied_head=False,
        rope_theta=1000.0,  # rows are short
    ),
    data=DataConfig(source=quickstart.dataset),
    retrieval=RetrievalConfig(num_passages=1, dims=512),
    rollout=RolloutConfig(
        num_slots=128,
        max_len=120,
        max_prompt_len=28,
        max_turn_len=28,
        max_observation_len=28,
        max_searches=4,
        search_calls=1,
    ),
    stages=(
        # Short rows first: on them the policy learns to copy a name three times sooner.
        warm_up("read", quickstart.reading_demonstrations, 150, 3e-3),
        warm_up("compare", quickstart.comparing_demonstrations, 1000, 3e-3),
        warm_up("haste", quickstart.hasty_demonstrations, 300, 2e-3),
        RLStage(
            name="search",
            steps=150,
            task=tasks.QUICKSTART,
            questions_per_step=16,
            group_size=8,
            max_tokens=1024,
            objective=PolicyObjective(kl_weight=0.0),
            # High enough to show the effect of the mask: at 3e-4 the unmasked control
            # also learns, only less.
            optimizer=OptimizerConfig(
                learning_rate=1e-3,
                warmup_steps=5,
                final_share=0.1,
                beta2=0.99,
                weight_decay=0.0,
            ),
        ),
    ),
    mesh=MeshShape(data=None, fsdp=1),  # too small to shard
    eval=EvalConfig(every=10, num_printed=3),
    logging=LoggingConfig(rollouts_every=20),
    checkpoint=CheckpointConfig(every=50),
)
