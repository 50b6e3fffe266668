"""What a reward function returns."""

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a rollout earned, and why.

    Attributes:
      reward: the sum of `parts`; a finite number.
      parts: by name, in reward units.
      reason: why, in words.
      prediction: the answer given, not normalised, whatever it earned; None when
        there is none that can be read.
      findings: what else the judge has seen, by name, for `jaxsearch score`.

    Errors: ValueError for a reward that is no finite number.
    """

    reward: float
    parts: dict[str, float]
    reason: str
    prediction: str | None
    findings: Mapping[str, float | str | bool | None] = dataclasses.field(
        default_factory=dict
    )

    def __post_init__(self):
        if not isinstance(self.reward, int | float) or not math.isfinite(self.reward):
            raise ValueError(
                f"a reward must be a finite number, got {self.reward!r} (parts "
                f"{self.parts}, reason {self.reason!r}); a rollout that cannot be "
                "judged needs a reward of its own"
            )
