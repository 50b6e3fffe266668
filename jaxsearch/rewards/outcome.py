"""What a reward function returns."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a rollout earned, and why.

    Attributes:
      reward: the sum of `parts`; always finite.
      parts: by name, in reward units.
      reason: why, in words.
      prediction: the answer given, not normalised, whatever it earned; None when
        there is none that can be read.
    """

    reward: float
    parts: dict[str, float]
    reason: str
    prediction: str | None
