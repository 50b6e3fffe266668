"""Checks of a web search before it is opened; imports nothing heavy."""

import importlib.util
import os

from jaxsearch.key_addresses import check_key
from jaxsearch.web.config import SUMMARY_KEY_VARIABLE, WebConfig
from jaxsearch.web.provider import WebProvider
from jaxsearch.web.proxies import SCHEMES, proxy_of
from jaxsearch.web.service import SearchService


def check_web(provider: WebProvider, config: WebConfig) -> None:
    """Checks that a search can begin; sends nothing.

    Raises:
      ValueError: if a package is missing, a key is missing or cannot be sent, a proxy
        cannot be used, or a budget needs a price.
    """
    if not callable(provider):
        raise ValueError(
            "retrieval.web must be serper, serpapi, brave, searxng, google, or a "
            f"function of a WebQuery, got {provider!r:.80}"
        )
    if not config.offline and isinstance(provider, SearchService):
        provider.check(has_date_limit=bool(config.date_limit))
    if not config.offline and config.summary_url:
        key = os.environ.get(SUMMARY_KEY_VARIABLE, "")
        check_key(key, f"the environment variable {SUMMARY_KEY_VARIABLE}")
    if not config.offline and config.use_proxy:
        for scheme in SCHEMES:
            proxy_of(scheme)
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
