"""R1-Searcher's second stage alone on the quickstart's world: a control.

Purpose    the effect of stage 1: the same warm-up and number of steps, but answers are
           rewarded from the first step on.
Command    jaxsearch train configs/quickstart_r1_searcher_stage2.py
Result     exact match on held-out questions 0.855, 0.925 and 0.965 for three seeds,
           where both stages have 0.885, 0.995 and 0.970, and are faster: 0.5 after 20
           to 50 steps instead of 40 to 120 (configs/README.md, "Experiments").
"""

import dataclasses
import runpy
from pathlib import Path

from jaxsearch.config import RunConfig

both: RunConfig = runpy.run_path(
    str(Path(__file__).with_name("quickstart_r1_searcher.py"))
)["config"]
*warm_up, retrieve, answer = both.stages
alone = dataclasses.replace(answer, steps=retrieve.steps + answer.steps)
config = dataclasses.replace(both, stages=(*warm_up, alone))
