"""Warms up the quickstart's policy: imitation, from random weights.

Purpose    makes the weights that ship with the package (--model.path
           jaxsearch:quickstart), from which the quickstart starts.
Paper      none: the papers' policies are pretrained language models.
Data       generated from the seed; held-out names are in no demonstration.
Machine    two CPU cores, 3 GB.
Command    jaxsearch train configs/quickstart_warm_up.py
           jaxsearch export runs/quickstart_warm_up jaxsearch/data/policies/quickstart
"""

import dataclasses
import runpy
from pathlib import Path

from jaxsearch.config import ModelConfig, RunConfig, SupervisedStage
from jaxsearch.data import quickstart
from jaxsearch.rewards import tasks
from jaxsearch.rl.optimizer import OptimizerConfig


def imitate(name, demonstrations, steps, learning_rate) -> SupervisedStage:
    """An imitation stage with these demonstrations, steps and learning rate."""
    return SupervisedStage(
        name=name,
        demonstrations=demonstrations,
        steps=steps,
        task=tasks.QUICKSTART,
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


search: RunConfig = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))[
    "config"
]
config = dataclasses.replace(
    search,
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
    stages=(
        # Short rows first: on them the policy learns to copy a name three times sooner.
        imitate("read", quickstart.reading_demonstrations, 150, 3e-3),
        imitate("compare", quickstart.comparing_demonstrations, 1000, 3e-3),
        imitate("haste", quickstart.hasty_demonstrations, 1000, 2e-3),
    ),
)
