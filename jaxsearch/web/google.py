"""Google's Custom Search JSON API, for those who still have it.

It takes no new customers and ends on 1 January 2027. Format, price and dates:
developers.google.com/custom-search/v1/overview and .../v1/reference/rest.
"""

import dataclasses
import os
from typing import Any

from jaxsearch.web.provider import WebQuery, WebResult
from jaxsearch.web.service import RegionalService, ServiceRequest, results_of

_MAX_RESULTS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Google(RegionalService):
    """Needs GOOGLE_API_KEY, and the id of a search engine in GOOGLE_CX."""

    url: str = "https://www.googleapis.com/customsearch/v1"
    usd_per_query: float = 0.005

    @property
    def variables(self) -> tuple[str, ...]:
        return ("GOOGLE_API_KEY", "GOOGLE_CX")

    def request(self, query: WebQuery) -> ServiceRequest:
        key, engine = (os.environ[name] for name in self.variables)
        num = min(query.num_results, _MAX_RESULTS)
        params = {"cx": engine, "q": query.text, "num": str(num)}
        params |= self.region
        if query.date_limit:
            params["sort"] = f"date:r:19900101:{query.date_limit.replace('-', '')}"
        # In a header, because addresses are written to logs.
        return ServiceRequest(
            url=self.url, params=params, headers={"x-goog-api-key": key}
        )

    def results(self, reply: Any) -> list[WebResult]:
        # `items` is missing if there are no results.
        return results_of(reply.get("items", []), "link", "title", "snippet")

    def is_quota(self, status: int, said: str) -> bool:
        # Queries per minute have the same status as those per day.
        is_daily = any(word in said for word in ("per day", "daily", "dailylimit"))
        return status in (403, 429) and is_daily


GOOGLE = Google()
