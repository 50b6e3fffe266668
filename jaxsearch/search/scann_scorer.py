"""Scorers: how ScaNN compares a query with a corpus."""

import dataclasses
import math
from typing import Any

# Brute force over 20,000 x 1,024 numbers takes a few milliseconds and is exact.
MAX_BRUTE_FORCE = 20_000
RECALL_AT = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class BruteForce:
    """Compares every query with every passage."""

    def to_json(self) -> dict[str, Any]:
        return {"name": "brute_force"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TreeAh:
    """Searches some clusters with compressed vectors and rescores the best exactly."""

    num_leaves: int  # clusters
    leaves_to_search: int  # clusters searched per query
    reorder: int = 200  # passages rescored exactly per query
    dimensions_per_block: int = 2  # dimensions that share one of 16 codes
    # ScaNN's name: weight of the quantization error along a passage's own direction.
    anisotropic_quantization_threshold: float = 0.2

    def __post_init__(self):
        if not 1 <= self.leaves_to_search <= self.num_leaves:
            raise ValueError(
                f"leaves_to_search must lie in [1, num_leaves = {self.num_leaves}], "
                f"got {self.leaves_to_search}"
            )
        if self.reorder < RECALL_AT:
            raise ValueError(f"reorder must be >= {RECALL_AT}, got {self.reorder}")

    def to_json(self) -> dict[str, Any]:
        return {"name": "tree_ah", **dataclasses.asdict(self)}


Scorer = BruteForce | TreeAh


def scorer_from_json(fields: dict[str, Any]) -> Scorer:
    """Returns the scorer that `to_json` wrote.

    Raises:
      ValueError: if the name or the settings are unknown.
    """
    settings = {name: value for name, value in fields.items() if name != "name"}
    kinds = {"brute_force": BruteForce, "tree_ah": TreeAh}
    if not isinstance(fields.get("name"), str) or fields["name"] not in kinds:
        raise ValueError(
            f"expected a scorer named one of {sorted(kinds)}, got {fields}"
        )
    kind = kinds[fields["name"]]
    hints = {field.name: field.type for field in dataclasses.fields(kind)}
    for name, value in settings.items():
        expected = (int, float) if hints.get(name) is float else (int,)
        if type(value) not in expected or not abs(value) < 2**31:
            raise ValueError(f"expected a number for {name} of a scorer, got {fields}")
    if settings.keys() != {field.name for field in dataclasses.fields(kind)}:
        names = sorted(field.name for field in dataclasses.fields(kind))
        raise ValueError(f"expected a scorer with the settings {names}, got {fields}")
    return kind(**settings)


def scorer_for_size(num_passages: int) -> Scorer:
    """Brute force up to MAX_BRUTE_FORCE passages, else a tree of sqrt(P) leaves.

    The tree searches all of its leaves until `calibrate` reduces their number.
    """
    if num_passages <= MAX_BRUTE_FORCE:
        return BruteForce()
    num_leaves = math.isqrt(num_passages)
    return TreeAh(num_leaves=num_leaves, leaves_to_search=num_leaves)
