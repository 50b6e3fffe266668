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
Result     two of the eight runs that are to be made (4 seeds, each with two
           roundings) were made, and stopped before their end: exact match on held-out
           questions of seed 0 was 0.895 with and 0.945 without fused multiply-add,
           after 50 and 40 of the 110 steps of the second stage. Both had stayed there
           for 20 steps. What is wrong are two-hop questions about companies: the
           policy makes a third search. With 300 steps of haste and 1e-3, at commit
           c19b706, it was 0.670, 0.925 and 0.935 for three seeds (configs/README.md,
           "Experiments").
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
