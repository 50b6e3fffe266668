"""R1-Searcher's second stage alone on the quickstart's world: a control.

Purpose    what stage 1 is for: the same warm-up, and as many steps in all, but answers
           are paid from the first one on.
Result     README.md, "Experiments"
Command    jaxsearch train configs/quickstart_r1_searcher_stage2.py
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
