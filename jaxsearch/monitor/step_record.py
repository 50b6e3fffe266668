"""The metrics of one training step, collected while it runs."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from jaxsearch.metrics import summarise


class StepRecord:
    """The values of a step's line in metrics.jsonl.

    Attributes:
      values: one float per metric.
    """

    def __init__(self):
        self.values: dict[str, float] = {}

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Adds metrics, converted to floats by `summarise`; waits for the device."""
        self.values |= summarise(metrics)

    @contextlib.contextmanager
    def time(self, key: str) -> Iterator[None]:
        """Records the seconds that the block takes."""
        started = time.perf_counter()
        yield
        self.values[key] = time.perf_counter() - started
