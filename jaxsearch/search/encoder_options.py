"""Options of a BERT encoder; this module has only light imports."""

import dataclasses
from collections.abc import Callable
from typing import Literal

QueryDevice = Literal["host", "accelerator"]
"""Device that encodes queries."""
Report = Callable[[int, int], None]
"""Called with the number of passages encoded so far, and their total."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Overrides of a model's own configuration; None keeps the model's setting."""

    pooling: str | None = None  # mean or cls
    is_normalised: bool | None = None  # whether vectors are scaled to length 1
    query_prefix: str | None = None
    passage_prefix: str | None = None
    dtype: str | None = None  # of activations; None: float32

    @property
    def given(self) -> list[str]:
        """Names of the options that are set."""
        fields = dataclasses.asdict(self).items()
        return [name for name, value in fields if value is not None]


def no_report(num_done: int, num_passages: int) -> None:
    """Ignores progress."""
