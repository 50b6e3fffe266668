"""Checks of a web search before it is opened; imports nothing heavy."""

import importlib.util

from jaxsearch.web.config import WebConfig
from jaxsearch.web.provider import WebProvider
from jaxsearch.web.service import SearchService


def check_web(provider: WebProvider, config: WebConfig) -> None:
    """Checks that a search can begin; sends nothing.

    Raises:
      ValueError: if a key or a package is missing, or a price that a budget needs.
    """
    if not callable(provider):
        raise ValueError(
            "retrieval.web must be serper, serpapi, brave, searxng, google, or a "
            f"function of a WebQuery, got {provider!r:.80}"
        )
    if not config.offline and isinstance(provider, SearchService):
        provider.check(has_date_limit=bool(config.date_limit))
    has_price = isinstance(provider, SearchService) or config.usd_per_query is not None
    if config.max_usd is not None and not has_price:
        raise ValueError(
            "web.max_usd needs the price of a query: give web.usd_per_query (0 if it "
            "is free)"
        )
    if not config.snippets and not config.offline:
        if importlib.util.find_spec("trafilatura") is None:
            raise ValueError(
                "pages are read with trafilatura, which is not installed: pip install "
                '"jaxsearch[web]", or answer with --web.snippets'
            )
