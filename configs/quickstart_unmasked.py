"""The quickstart with retrieved tokens in the loss: a control that is worse.

Purpose    the effect of the mask: the policy is trained on retrieved passages as if it
           had written them.
Command    jaxsearch train configs/quickstart_unmasked.py
Result     exact match on held-out questions 0.960 after 30 steps, where the masked run
           has 0.990 (seed 0). At a learning rate of 1e-3 and 150 steps 0.885, 0.960
           and 0.625 for three seeds, where the masked runs had 0.940, 0.955 and 0.990
           (configs/README.md, "Experiments").
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
