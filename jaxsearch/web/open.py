"""Makes the retriever of a web search from its config."""

from pathlib import Path

from jaxsearch.web.addresses import AddressRule, is_public
from jaxsearch.web.cache import WebCache
from jaxsearch.web.check import check_web
from jaxsearch.web.config import WebConfig
from jaxsearch.web.fetch import Fetcher
from jaxsearch.web.page_text import PageReader
from jaxsearch.web.provider import WebProvider
from jaxsearch.web.retriever import WebRetriever
from jaxsearch.web.service import SearchService
from jaxsearch.web.spending import Spending
from jaxsearch.web.summary import Summarizer
from jaxsearch.web.turns import Turns


def open_web(
    provider: WebProvider,
    config: WebConfig,
    folder: Path,
    *,
    rule: AddressRule = is_public,
    reader: PageReader | None = None,
) -> WebRetriever:
    """The retriever of a web search, for a run or for a server.

    Args:
      provider: finds pages: a service such as `serper.SERPER`, or any function of a
        WebQuery.
      config: how to search.
      folder: keeps the count of the budget, and the cache if the config names none.
      rule: addresses that pages may be fetched from. It is neither a field of a config
        nor a variable of the environment, so that nobody lifts it by accident.
      reader: reads pages; None for processes of its own.

    Raises:
      ValueError: as `check_web`, or if the cache or the count of the budget is damaged
        or cannot be made.
    """
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
        reader=reader or PageReader(),
        summarizer=summarizer,
    )
