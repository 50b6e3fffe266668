"""Makes the retriever of a web search from its config."""

import importlib.util
from pathlib import Path

from jaxsearch.web.addresses import AddressRule, is_public
from jaxsearch.web.config import WebConfig
from jaxsearch.web.provider import SearchService, WebProvider
from jaxsearch.web.retriever import WebRetriever


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


def open_web(
    provider: WebProvider,
    config: WebConfig,
    folder: Path,
    *,
    rule: AddressRule = is_public,
) -> WebRetriever:
    """The retriever of a web search, for a run or for a server.

    Args:
      provider: finds pages: a service such as `serper.SERPER`, or any function of a
        WebQuery.
      config: how to search.
      folder: keeps the count of the budget, and the cache if the config names none.
      rule: addresses that pages may be fetched from. It is neither a field of a config
        nor a variable of the environment, so that nobody lifts it by accident.

    Raises:
      ValueError: as `check_web`, or if the cache is damaged.
    """
    from jaxsearch.web.cache import WebCache
    from jaxsearch.web.fetch import Fetcher
    from jaxsearch.web.page_text import PageReader
    from jaxsearch.web.spending import Spending
    from jaxsearch.web.summary import Summarizer
    from jaxsearch.web.turns import Turns

    check_web(provider, config)
    kept = Path(config.cache) if config.cache else folder
    price = config.usd_per_query
    if price is None:
        is_service = isinstance(provider, SearchService)
        price = provider.usd_per_query if is_service else 0.0
    summarizer = None
    if config.summary_url:
        summarizer = Summarizer(
            url=config.summary_url,
            model=config.summary_model,
            timeout_s=6 * config.timeout_s,
            use_proxy=config.use_proxy,
        )
    return WebRetriever(
        provider,
        config,
        cache=WebCache(kept),
        spending=Spending(
            path=folder / "spent.sqlite",
            usd_per_query=price,
            max_queries=config.max_queries,
            max_usd=config.max_usd,
        ),
        queries=Turns(kept / "turns" / "queries"),
        fetcher=Fetcher(
            Turns(kept / "turns" / "hosts", config.host_pause_s),
            timeout_s=config.timeout_s,
            use_proxy=config.use_proxy,
            rule=rule,
        ),
        reader=PageReader(),
        summarizer=summarizer,
    )
