"""Counts of a web search, for the metrics of a step."""

import threading

# Why a page gave no passage. Most are what its server or its author did.
PAGE_REASONS = (
    *("bad_url", "forbidden", "robots", "redirects", "missing", "status", "type"),
    *("too_large", "bad_reply", "connection", "timeout", "host_busy", "parsing"),
    *("no_text", "summary", "not_cached"),
)
NAMES = (
    *("queries", "queries_cached", "queries_failed", "rate_limited", "usd"),
    *("pages_fetched", "pages_cached", "summaries", "cache_failures"),
    *(f"pages_failed/{reason}" for reason in PAGE_REASONS),
)


class WebCounts:
    """Counts since the search was opened; several threads may count at once."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(NAMES, 0.0)
        self._counting = threading.Lock()

    def add(self, name: str, amount: float = 1.0) -> None:
        """Adds to one of `NAMES`."""
        with self._counting:
            self._counts[name] += amount

    def metrics(self) -> dict[str, float]:
        """All counts, under the names of their metrics."""
        with self._counting:
            return {f"web/{name}": count for name, count in self._counts.items()}
