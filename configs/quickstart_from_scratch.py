"""The quickstart from random weights: the warm-up, then RL.

Purpose    the whole of the quickstart, nothing taken from the package.
Data       generated from the seed.
Machine    two CPU cores, 3 GB.
Command    bash launch/quickstart.sh --from-scratch, or:
           jaxsearch train configs/quickstart_from_scratch.py
"""

import dataclasses
import runpy
from pathlib import Path

from jaxsearch.config import RunConfig


def read(name: str) -> RunConfig:
    """The config in another file of this folder."""
    return runpy.run_path(str(Path(__file__).with_name(name)))["config"]


warm_up = read("quickstart_warm_up.py")
config = dataclasses.replace(
    warm_up, stages=(*warm_up.stages, *read("quickstart.py").stages)
)
