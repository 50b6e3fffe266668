"""R1-Searcher's two stages in one run, on the quickstart's world.

Purpose    a policy that hardly ever searches after its warm-up is first rewarded for
           searching and the format alone, then for answers.
           configs/quickstart_r1_searcher_stage2.py rewards answers from the start.
Paper      R1-Searcher's tags and the paper's two rewards (arXiv:2503.05592): stage 1
           gives 0.5 for a search and 0.5 for the format (GRPO); stage 2 gives F1, less
           2 for a wrong format (REINFORCE++ with the group's mean as baseline).
Differs    a warm-up (the paper's policies are pretrained): it shows how to search and
           read; then hasty rollouts, four of five without the answer's tags; then, 49
           times of 50, an answer without a search. KL weight 0; one update per step, of
           16 questions x 8 (theirs: four, of 64 x 16); one passage per search, no
           instructions in the prompt, observations on one line.
Data       generated from the seed.
Machine    two CPU cores, 3 GB.
Command    jaxsearch train configs/quickstart_r1_searcher.py
Result     4 seeds, each with two roundings: exact match on held-out questions 0.980
           (median of the 8 runs, worst 0.870), sampled at temperature 1 0.935 (0.800),
           0.000 before RL and with an empty index; 9 minutes on one core
           (configs/README.md, "A result that depended on the rounding").
"""

import dataclasses
import runpy
from pathlib import Path

from jaxsearch.config import DataConfig, RLStage, RunConfig
from jaxsearch.data import quickstart
from jaxsearch.rewards import tasks
from jaxsearch.rl.advantages import group_centred

scratch = Path(__file__).with_name("quickstart_from_scratch.py")
research: RunConfig = runpy.run_path(str(scratch))["config"]
imitate = runpy.run_path(str(scratch.with_name("quickstart_warm_up.py")))["imitate"]
*_, search = research.stages

retrieve = dataclasses.replace(
    search,
    name="retrieve",
    task=tasks.QUICKSTART_R1_SEARCHER_STAGE1,
    steps=40,
    # At 1e-3 the policy unlearns within ten steps what this stage does not reward:
    # reading and second hops.
    optimizer=dataclasses.replace(
        search.optimizer, learning_rate=2e-4, final_share=1.0
    ),
)
answer: RLStage = dataclasses.replace(
    search,
    name="answer",
    task=tasks.QUICKSTART_R1_SEARCHER_STAGE2,
    steps=110,
    advantage=group_centred,
    whiten_advantages=True,
)
config = dataclasses.replace(
    research,
    data=DataConfig(source=quickstart.r1_searcher_dataset),
    stages=(
        imitate("read", quickstart.r1_searcher_reading, 150, 3e-3),
        imitate("compare", quickstart.r1_searcher_comparing, 1000, 3e-3),
        imitate("haste", quickstart.r1_searcher_hasty, 1000, 2e-3),
        imitate("reluctance", quickstart.r1_searcher_reluctant, 100, 1e-3),
        retrieve,
        answer,
    ),
)
