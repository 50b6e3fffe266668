"""Settings of ScaNN's tree, and how they follow from the size of a corpus."""

import dataclasses
import math
from typing import Any

# A passage of a corpus that is not larger than this is found by exact search in some
# milliseconds.
MAX_EXACT = 20_000
# Recall was 0.77 to 0.87 with 56 training vectors per leaf, and 0.996 with 112.
VECTORS_PER_LEAF = 128
_MIN_SAMPLE = 100_000
_MIN_CANDIDATES = 5


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
        if self.reorder < _MIN_CANDIDATES:
            raise ValueError(
                f"reorder must be >= {_MIN_CANDIDATES}, got {self.reorder}"
            )

    def to_json(self) -> dict[str, Any]:
        return {"name": "tree_ah", **dataclasses.asdict(self)}


def tree_from_json(fields: dict[str, Any]) -> TreeAh:
    """Returns the settings that `to_json` wrote.

    Raises:
      ValueError: if the name or the settings are unknown.
    """
    settings = {name: value for name, value in fields.items() if name != "name"}
    if fields.get("name") != "tree_ah":
        raise ValueError(f"expected a scorer named 'tree_ah', got {fields!r:.200}")
    hints = {field.name: field.type for field in dataclasses.fields(TreeAh)}
    for name, value in settings.items():
        expected = (int, float) if hints.get(name) is float else (int,)
        if type(value) not in expected or not abs(value) < 2**31:
            raise ValueError(
                f"expected a number for {name!r:.60} of a scorer, got {value!r:.60}"
            )
    if settings.keys() != hints.keys():
        raise ValueError(
            f"expected a scorer with the settings {sorted(hints)}, got {fields!r:.200}"
        )
    return TreeAh(
        **{
            name: float(value) if hints[name] is float else value
            for name, value in settings.items()
        }
    )


def tree_for_size(num_passages: int, num_leaves: int | None = None) -> TreeAh:
    """A tree which searches all of its leaves until it is calibrated.

    Args:
      num_passages: P.
      num_leaves: None takes sqrt(P).
    """
    if num_leaves is None:
        num_leaves = max(1, math.isqrt(num_passages))
    return TreeAh(num_leaves=num_leaves, leaves_to_search=num_leaves)


def sample_size(num_passages: int, num_leaves: int) -> int:
    """Number of vectors that a tree is trained on."""
    return min(num_passages, max(_MIN_SAMPLE, VECTORS_PER_LEAF * num_leaves))
