"""A retriever that searches the open web."""

import concurrent.futures
import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

from jaxsearch.search.index import (
    Hit,
    SearchError,
    SearchStoppedError,
    Unanswered,
)
from jaxsearch.search.passages import Passage
from jaxsearch.surrogates import whole_characters
from jaxsearch.web.cache import Kind, WebCache
from jaxsearch.web.config import WebConfig
from jaxsearch.web.counts import WebCounts
from jaxsearch.web.fetch import Fetcher, PageError
from jaxsearch.web.page_text import PageReader, PageText, cleaned
from jaxsearch.web.provider import (
    BadQueryError,
    RateLimitError,
    WebProvider,
    WebQuery,
    WebResult,
)
from jaxsearch.web.service import key_of
from jaxsearch.web.spending import Spending
from jaxsearch.web.summary import Summarizer
from jaxsearch.web.turns import Turns

_NUM_THREADS = 8
_MAX_QUERY_LEN = 400  # characters
_ATTEMPTS = 4  # at a query that the provider limits the rate of
_MAX_PAUSE_S = 20.0
_TURN_WAIT_S = 120.0
# A page that fails for these reasons may be there the next time.
_PASSING = ("timeout", "connection", "host_busy", "status", "parsing")


class WebRetriever:
    """Answers queries from a provider's results, and the pages that they name.

    `open_web` makes one. Several threads may search at once, and several processes may
    share the cache.

    Args:
      provider: finds pages.
      config: how to search.
      cache: keeps results, pages and summaries.
      spending: the budget.
      queries: gives equal queries one turn at a time, so that they are asked once.
      fetcher: fetches pages.
      reader: reads them.
      summarizer: summarizes them; None for their text.
    """

    def __init__(
        self,
        provider: WebProvider,
        config: WebConfig,
        *,
        cache: WebCache,
        spending: Spending,
        queries: Turns,
        fetcher: Fetcher,
        reader: PageReader,
        summarizer: Summarizer | None,
    ):
        self._provider = provider
        self._provider_key = key_of(provider)
        self._config = config
        self._cache = cache
        self._spending = spending
        self._queries = queries
        self._fetcher = fetcher
        self._reader = reader
        self._summarizer = summarizer
        self._counts = WebCounts()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Up to k passages for each query; none for a blank one.

        A query without results has none either. One whose pages all failed, or that the
        provider refuses, is `Unanswered`.

        Raises:
          SearchError: if the provider or the summary endpoint cannot answer now. What
            was found so far is in the cache.
          SearchStoppedError: if a budget is used up, or a key is refused.
        """
        if not queries:
            return []
        num_threads = min(_NUM_THREADS, len(queries))
        with concurrent.futures.ThreadPoolExecutor(num_threads) as threads:
            answers = [threads.submit(self._answer, query, k) for query in queries]
            concurrent.futures.wait(
                answers, return_when=concurrent.futures.FIRST_EXCEPTION
            )
            for waiting in answers:
                waiting.cancel()
        failures = [f.exception() for f in answers if not f.cancelled()]
        # What the user must act on comes first.
        for kind in (SearchStoppedError, Exception):
            for failure in failures:
                if isinstance(failure, kind):
                    raise failure
        return [answer.result() for answer in answers]

    def search_counts(self) -> dict[str, float]:
        """Counts since it was opened, by the name of their metric."""
        return self._counts.metrics()

    def close(self) -> None:
        """Ends the processes that read pages."""
        self._reader.close()

    def _answer(self, query: str, k: int) -> list[Hit]:
        # Cut first, because a policy may write a megabyte.
        text = cleaned(query[: 10 * _MAX_QUERY_LEN]).replace("\n", " ")
        text = text[:_MAX_QUERY_LEN].strip()
        if not text or k < 1:
            return []
        try:
            results = self._results(text)
        except (BadQueryError, _NotCachedError) as error:
            self._counts.add("queries_failed")
            return Unanswered(str(error))
        distinct = _distinct(results)
        if self._config.snippets:
            passages = [_passage(r.url, r.title, r.snippet) for r in distinct[:k]]
        else:
            passages = self._from_pages(text, distinct[: self._config.pages], k)
        if isinstance(passages, str):
            self._counts.add("queries_failed")
            return Unanswered(passages)
        return [
            Hit(passage=passage, score=1.0 / rank)
            for rank, passage in enumerate(passages, 1)
        ]

    def _results(self, text: str) -> list[WebResult]:
        """The provider's results for a query, from the cache if they are there.

        Raises:
          BadQueryError: if the provider refuses the query.
          _NotCachedError: if they are not in the cache, which is all there is.
          SearchError, SearchStoppedError: as in `search`.
        """
        config = self._config
        asked = f"{text} site:{config.site}" if config.site else text
        key = json.dumps([self._provider_key, asked, config.date_limit])
        known = self._cache.get("results", key)
        if known is None and config.offline:
            raise _NotCachedError(
                f"the query {text!r:.100} is not in the cache {self._cache.path}, and "
                "web.offline asks nobody"
            )
        if known is None:
            try:
                with self._queries.turn(key, _TURN_WAIT_S):
                    # Another thread or process may have asked meanwhile.
                    known = self._cache.get("results", key)
                    if known is None:
                        found = self._asked(asked)
                        rows = [[r.url, r.title, r.snippet] for r in found]
                        self._keep("results", key, rows)
                        return found
            except TimeoutError as error:
                raise SearchError(f"web search: {error}") from None
        self._counts.add("queries_cached")
        return [WebResult(url=u, title=t, snippet=s) for u, t, s in known]

    def _asked(self, text: str) -> list[WebResult]:
        """The provider's answer; waits and asks again if it limits the rate."""
        config = self._config
        query = WebQuery(
            text=text,
            date_limit=config.date_limit,
            timeout_s=config.timeout_s,
            use_proxy=config.use_proxy,
        )
        for number in range(_ATTEMPTS):
            self._spending.reserve()
            try:
                found = _checked(self._provider(query), self._provider_key)
            except RateLimitError as error:
                self._spending.refund()
                self._counts.add("rate_limited")
                pause = error.retry_after_s
                pause = float(2**number) if pause is None else pause
                if number == _ATTEMPTS - 1 or pause > _MAX_PAUSE_S:
                    raise
                time.sleep(pause)
            except BaseException:
                # A provider of the user's own may raise anything.
                self._spending.refund()
                raise
            else:
                self._counts.add("queries")
                self._counts.add("usd", self._spending.usd_per_query)
                return found
        raise AssertionError("the last attempt returns or raises")

    def _from_pages(
        self, query: str, results: Sequence[WebResult], k: int
    ) -> list[Passage] | str:
        """Passages of the pages that can be read; if none can, the reasons."""
        passages: list[Passage] = []
        failures: list[str] = []
        for result in results:
            try:
                title, text = self._page(result.url)
                if self._summarizer is not None:
                    text = self._summary(self._summarizer, query, text)
                else:
                    text = text[: self._config.max_chars]
            except PageError as error:
                self._counts.add(f"pages_failed/{error.reason}")
                failures.append(f"{result.url:.80}: {error}")
                continue
            if text:
                passages.append(_passage(result.url, title or result.title, text))
            if len(passages) == k:
                break
        if failures and len(failures) == len(results):
            return f"no page could be read: {'; '.join(failures)}"
        return passages

    def _page(self, url: str) -> PageText:
        """A page's title and text, or why it has none, from the cache or its server.

        Raises:
          PageError: if it cannot be read.
        """
        known = self._cache.get("page", url)
        if known is not None:
            self._counts.add("pages_cached")
            if "reason" in known:
                raise PageError(known["reason"], known["message"])
            return PageText(known["title"], known["text"])
        if self._config.offline:
            raise PageError("not_cached", "not in the cache")
        try:
            found = self._reader.read(self._fetcher.fetch(url))
        except PageError as error:
            if error.reason not in _PASSING:
                value = {"reason": error.reason, "message": str(error)}
                self._keep("page", url, value)
            raise
        self._counts.add("pages_fetched")
        self._keep("page", url, found._asdict())
        return found

    def _summary(self, summarizer: Summarizer, query: str, text: str) -> str:
        """What a page says about a query, from the cache or the model.

        Raises:
          PageError: if there is no summary.
        """
        text = text[: self._config.max_chars]
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = json.dumps([summarizer.model, query, digest])
        known: Any = self._cache.get("summary", key)
        if known is None:
            if self._config.offline:
                raise PageError("not_cached", "its summary is not in the cache")
            known = summarizer.summarize(query, text)
            self._counts.add("summaries")
            self._keep("summary", key, known)
        return known

    def _keep(self, kind: Kind, key: str, value: Any) -> None:
        """Stores a value; if that fails, the answer that was paid for is still used."""
        try:
            self._cache.put(kind, key, value)
        except SearchError:
            self._counts.add("cache_failures")


class _NotCachedError(Exception):
    """A query without an answer in the cache, which is all that may be asked."""


def _checked(found: Any, provider: str) -> list[WebResult]:
    """A provider's answer.

    Raises:
      SearchStoppedError: if it is something else than results.
    """
    for result in found:
        is_result = isinstance(result, WebResult)
        if not is_result or not all(isinstance(v, str) for v in vars(result).values()):
            raise SearchStoppedError(
                f"{provider} must return a list of jaxsearch.web.provider.WebResult "
                f"whose fields are text, got {result!r:.80} in it"
            )
    return list(found)


def _distinct(results: Sequence[WebResult]) -> list[WebResult]:
    """The first result of each address, in order.

    An address with half of a surrogate pair is left out: it is no text, so no page can
    be looked up under it, and no passage can have it as its id.
    """
    by_url: dict[str, WebResult] = {}
    for result in results:
        if whole_characters(result.url) == result.url:
            by_url.setdefault(result.url, result)
    return list(by_url.values())


def _passage(url: str, title: str, text: str) -> Passage:
    title = cleaned(title).replace("\n", " ") or url
    return Passage(id=url, contents=f"{title}\n{cleaned(text)}")
