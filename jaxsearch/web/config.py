"""The settings of a search of the open web."""

import dataclasses
import datetime
import math
import urllib.parse

SUMMARY_KEY_VARIABLE = "WEB_SUMMARY_API_KEY"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebConfig:
    """How `retrieval.web` searches. Keys come from the environment alone."""

    snippets: bool = False
    """Answer with the snippets of the provider's results; fetch no page."""
    site: str = ""
    """Search this site alone, such as en.wikipedia.org."""
    date_limit: str = ""
    """Day (YYYY-MM-DD) after which pages are not wanted, as far as the provider knows
    their dates; empty for any."""
    pages: int = 3
    """Pages per query to try, from the first result on."""
    max_chars: int = 35_000
    """Characters of a page that are summarized, or shown without a summary."""
    summary_url: str = ""
    """OpenAI-compatible endpoint that summarizes each page for its query, such as
    http://127.0.0.1:8000/v1; empty for the text of the page. It gets the key in
    WEB_SUMMARY_API_KEY, if there is one."""
    summary_model: str = ""
    """Name of the model there."""
    cache: str = ""
    """Folder of results, pages and summaries; empty for web/ in the run's folder."""
    offline: bool = False
    """Answer from the cache alone, so that an evaluation can be repeated. A query that
    is not there counts as a failed search."""
    max_queries: int | None = None
    """Queries to the provider in the whole run; one more stops it. None for no limit.
    Queries that are in the cache are free."""
    max_usd: float | None = None
    """The same limit in US dollars, for the provider's queries alone."""
    usd_per_query: float | None = None
    """Price of a query; None for the provider's list price."""
    timeout_s: float = 10.0
    """Seconds for a page, its redirects included, for a query, and for a summary six
    times as many."""
    host_pause_s: float = 1.0
    """Pause between two requests to a host, which gets one at a time."""
    use_proxy: bool = False
    """Connect through the proxy that the environment names, which then decides about
    the addresses of names."""

    def __post_init__(self):
        for name in ("pages", "max_chars"):
            if vars(self)[name] < 1:
                raise ValueError(
                    f"web.{name} must be at least 1, got {vars(self)[name]}"
                )
        for name in ("max_queries", "max_usd", "usd_per_query", "host_pause_s"):
            value = vars(self)[name]
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"web.{name} must be 0 or more, got {value}")
        if not 0 < self.timeout_s < math.inf:
            raise ValueError(
                f"web.timeout_s must be positive and finite, got {self.timeout_s}"
            )
        if any(not c.isalnum() and c not in ".-/_" for c in self.site):
            raise ValueError(
                "web.site must be a site such as en.wikipedia.org, got "
                f"{self.site!r:.80}"
            )
        if self.date_limit:
            _check_date(self.date_limit)
        _check_summary(self)


def _check_date(value: str) -> None:
    """Checks that a field is a day.

    Raises:
      ValueError: if it is not.
    """
    try:
        is_day = datetime.date.fromisoformat(value).isoformat() == value
    except ValueError:
        is_day = False
    if not is_day:
        raise ValueError(
            f"web.date_limit must be a day such as 2026-01-31, got {value!r:.80}"
        )


def _check_summary(config: WebConfig) -> None:
    """Checks the fields of the endpoint that summarizes.

    Raises:
      ValueError: if one is missing or malformed.
    """
    if bool(config.summary_url) != bool(config.summary_model):
        raise ValueError(
            "web.summary_url and web.summary_model belong together, got "
            f"{config.summary_url!r:.80} and {config.summary_model!r:.80}"
        )
    if not config.summary_url:
        return
    if config.snippets:
        raise ValueError(
            "web.snippets fetches no page, so there is nothing to summarize: leave out "
            "web.snippets or web.summary_url"
        )
    parts = urllib.parse.urlsplit(config.summary_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            "web.summary_url must be an address such as http://127.0.0.1:8000/v1, got "
            f"{config.summary_url!r:.80}"
        )
    if parts.username or parts.password or parts.query:
        # Not shown: it may be a key.
        raise ValueError(
            "web.summary_url must hold no key or password, because it is recorded; "
            f"give the key in the environment variable {SUMMARY_KEY_VARIABLE}"
        )
