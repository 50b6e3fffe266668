"""What a reward function returns."""

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a rollout earned, and why.

    Attributes:
      reward: the sum of `terms`.
      terms: by name, in reward units.
      reason: why, in words.
      prediction: the answer given, not normalised, whatever it earned; None when
        there is none that can be read.
      findings: what else the judge has seen, by name, for `jaxsearch score`.

    Errors: ValueError for a reward or a part that is no finite number, or a prediction
    that is no text.
    """

    reward: float
    terms: dict[str, float]
    reason: str
    prediction: str | None
    findings: Mapping[str, float | str | bool | None] = dataclasses.field(
        default_factory=dict
    )

    def __post_init__(self):
        for value in (self.reward, *self.terms.values()):
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(
                    f"a reward and its terms must be finite numbers of Python's, got "
                    f"{self.reward!r} and {self.terms} (reason: {self.reason!r})"
                )
        if not isinstance(self.prediction, str | None):
            raise ValueError(
                f"a prediction must be a string or None, got {self.prediction!r:.80}"
            )
