"""What a user may say about a neural encoder; imports nothing heavy."""

import dataclasses
from collections.abc import Callable
from typing import Literal

# Where queries are computed.
QueryDevice = Literal["host", "accelerator"]
Report = Callable[[int, int], None]  # of passages encoded so far, and of all


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """What is said about a model; None: as its own configuration has it."""

    pooling: str | None = None  # mean or cls
    is_normalised: bool | None = None  # whether vectors get length 1
    query_prefix: str | None = None
    passage_prefix: str | None = None
    dtype: str | None = None  # of activations; None: float32

    @property
    def given(self) -> list[str]:
        """Names of the options that say something."""
        fields = dataclasses.asdict(self).items()
        return [name for name, value in fields if value is not None]


def no_report(num_done: int, num_passages: int) -> None:
    """Says nothing."""
