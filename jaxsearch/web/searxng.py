"""SearXNG: a metasearch engine that users host themselves.

Format: docs.searxng.org/dev/search_api.html. An instance refuses the format json with
status 403 unless its settings have it.
"""

import dataclasses
import os
from typing import Any

from jaxsearch.web.provider import WebQuery, WebResult
from jaxsearch.web.service import SearchService, ServiceRequest, results_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Searxng(SearchService):
    """An instance at `url`, or at SEARXNG_URL without one; it has no key.

    Its settings must allow the format json. Dates cannot be limited.
    """

    language: str = "en"

    @property
    def name(self) -> str:
        return f"searxng {self.language}"

    @property
    def variables(self) -> tuple[str, ...]:
        return () if self.url else ("SEARXNG_URL",)

    @property
    def refusal(self) -> str:
        return (
            "the instance does not allow the format json: add it to search.formats in "
            "its settings.yml, or use an instance of your own"
        )

    def check(self, *, has_date_limit: bool) -> None:
        super().check(has_date_limit=has_date_limit)
        if has_date_limit:
            raise ValueError(
                "SearXNG cannot limit the dates of pages; leave out web.date_limit, or "
                "use another provider"
            )

    def request(self, query: WebQuery) -> ServiceRequest:
        url = self.url or os.environ["SEARXNG_URL"]
        params = {"q": query.text, "format": "json", "language": self.language}
        return ServiceRequest(url=f"{url.rstrip('/')}/search", params=params)

    def results(self, reply: Any) -> list[WebResult]:
        rows, silent = reply["results"], reply.get("unresponsive_engines")
        if silent and not rows:
            # It answers with status 200 when all of its engines block it.
            raise ValueError("no engine responded")
        return results_of(rows, "url", "title", "content")

    def is_quota(self, status: int, said: str) -> bool:
        return False


SEARXNG = Searxng()
