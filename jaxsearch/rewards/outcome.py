"""The result of a reward function."""

import dataclasses
import math
from collections.abc import Mapping


class RewardError(ValueError):
    """A reward function raised an exception, or returned something unusable."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The reward of one rollout, with its terms and the reason for it.

    Attributes:
      reward: the sum of `terms`.
      terms: the summands by name, in reward units; called "parts" in files.
      reason: a short explanation for readers.
      prediction: the policy's answer, not normalised, even if it earned nothing; None
        if no answer can be parsed.
      findings: additional values by name, for the output of `jaxsearch score`.

    Raises:
      ValueError: if the reward or a term is not a finite number, or the prediction is
        not a string or None.
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
                    f"a reward and its terms must be finite Python numbers, got "
                    f"{self.reward!r} and {self.terms} (reason: {self.reason!r})"
                )
        if not isinstance(self.prediction, str | None):
            raise ValueError(
                f"a prediction must be a string or None, got {self.prediction!r:.80}"
            )
