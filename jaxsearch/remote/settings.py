"""Settings of the client that searches on servers."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """How servers of `retrieval.url` are asked. None of it changes the answers."""

    connect_timeout_s: float = 5.0
    """Timeout of a connection, in seconds. Answers have retrieval.timeout_s."""
    max_requests: int = 32
    """Largest number of requests that are under way at once, over all servers."""
    max_queries: int = 64
    """Largest number of queries in a request; a larger batch is split, and its parts
    are asked at the same time."""
    cached_queries: int = 10_000
    """Answers to keep, so that an equal query is not asked again; 0 for none."""

    def __post_init__(self):
        if not 0 < self.connect_timeout_s < math.inf:
            raise ValueError(
                "connect_timeout_s must be positive and finite, got "
                f"{self.connect_timeout_s}"
            )
        for name in ("max_requests", "max_queries"):
            if vars(self)[name] < 1:
                raise ValueError(f"{name} must be at least 1, got {vars(self)[name]}")
        if self.cached_queries < 0:
            raise ValueError(
                f"cached_queries must not be negative, got {self.cached_queries}"
            )


DEFAULT_SETTINGS = ClientSettings()
