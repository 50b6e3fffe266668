"""The known model families; a new one needs a file in this folder and a line here."""

import dataclasses
import functools
from collections.abc import Mapping

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.families.family import Family
from jaxsearch.models.families.gemma3 import GEMMA3
from jaxsearch.models.families.llama import LLAMA
from jaxsearch.models.families.qwen2 import QWEN2
from jaxsearch.models.families.qwen3 import QWEN3

FAMILIES: tuple[Family, ...] = (QWEN2, QWEN3, LLAMA, GEMMA3)

# Published models by their id on the Hub.
PUBLISHED_SIZES: Mapping[str, Architecture] = {
    name: sizes for family in FAMILIES for name, sizes in family.sizes.items()
}


def family_named(model_type: object) -> Family:
    """The family with a `model_type`.

    Raises:
      ValueError: if there is none.
    """
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    known = [family.model_type for family in FAMILIES]
    raise ValueError(f"model_type {model_type!r:.100} is not supported; known: {known}")


@functools.cache
def family_of(architecture: Architecture) -> Family:
    """The family whose config.json describes exactly this architecture.

    Raises:
      ValueError: if there is none, so that no file describes another network.
    """
    # The context length does not change the network.
    architecture = dataclasses.replace(architecture, max_positions=1)
    for family in FAMILIES:
        config = {"model_type": family.model_type, **family.write(architecture)}
        if family.read(config) == architecture:
            return family
    known = [family.model_type for family in FAMILIES]
    raise ValueError(
        f"no known model family ({', '.join(known)}) has an architecture with these "
        f"options: {architecture}"
    )
