"""Options of an evaluation's answers."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How many answers each question gets, and what is kept of them.

    Attributes:
      num_samples: answers per question.
      temperature: sampling temperature; 0 is greedy. None for 0, or for 1 with more
        than one answer per question.
      keeps_tokens: whether predictions have token ids and log-probs.
      allowed_failures: number of answers that a model server may fail to give.

    Raises:
      ValueError: if a value is impossible, or all answers to a question would be equal.

    Example:
      >>> jaxsearch.AnswerOptions(num_samples=4).sampling_temperature
      1.0
    """

    num_samples: int = 1
    temperature: float | None = None
    keeps_tokens: bool = False
    allowed_failures: int = 0

    def __post_init__(self):
        if self.num_samples < 1:
            raise ValueError(f"--samples must be at least 1, got {self.num_samples}")
        if not 0 <= self.sampling_temperature < math.inf:
            raise ValueError(
                "--temperature must be finite and not negative, got "
                f"{self.sampling_temperature}"
            )
        if self.num_samples > 1 and self.sampling_temperature == 0:
            raise ValueError(
                f"--samples {self.num_samples} at --temperature 0 would give equal "
                "answers; set a higher temperature, or leave it out for 1"
            )
        if self.allowed_failures < 0:
            raise ValueError(
                f"--allow-failures must not be negative, got {self.allowed_failures}"
            )

    @property
    def sampling_temperature(self) -> float:
        """The temperature, also if it is not given."""
        if self.temperature is None:
            return 1.0 if self.num_samples > 1 else 0.0
        return self.temperature


ONE_GREEDY = AnswerOptions()
