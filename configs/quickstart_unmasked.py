"""The quickstart with retrieved tokens in the loss: a control that is seen to fail.

Purpose    what masking is for. The policy is paid for the words of the passages it
           was handed as if it had written them. Two seeds of three fall back, within
           20 steps, to one search and the name it brings; the third learns late.
Result     README.md, "Two lessons beside it"
Command    jaxsearch train configs/quickstart_unmasked.py
"""

import dataclasses
import runpy
from pathlib import Path

from jaxsearch.config import RunConfig

masked: RunConfig = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))[
    "config"
]
*warm_up, search = masked.stages
config = dataclasses.replace(
    masked,
    stages=(
        *warm_up,
        dataclasses.replace(search, has_masked_observations=False),
    ),
)
