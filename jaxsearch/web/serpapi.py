"""SerpApi (serpapi.com): Google's results.

Format: serpapi.com/search-api and serpapi.com/organic-results; errors:
serpapi.com/api-status-and-error-codes. The price is that of 5,000 searches a month.
"""

import dataclasses
import os
from typing import Any

from jaxsearch.web.provider import WebQuery, WebResult
from jaxsearch.web.serper import google_dates
from jaxsearch.web.service import RegionalService, ServiceRequest, results_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class SerpApi(RegionalService):
    """Needs SERPAPI_API_KEY."""

    url: str = "https://serpapi.com/search.json"
    usd_per_query: float = 0.015

    @property
    def variables(self) -> tuple[str, ...]:
        return ("SERPAPI_API_KEY",)

    def request(self, query: WebQuery) -> ServiceRequest:
        params = {"engine": "google", "q": query.text, "num": str(query.num_results)}
        params |= self.region | {"output": "json"}
        if query.date_limit:
            params["tbs"] = google_dates(query.date_limit)
        # The service takes the key in no other place.
        params["api_key"] = os.environ[self.variables[0]]
        return ServiceRequest(url=self.url, params=params)

    def results(self, reply: Any) -> list[WebResult]:
        if reply.get("search_metadata", {}).get("status") == "Error":
            raise ValueError("the search failed")
        # A query without results has status Success, and an error that says so.
        rows = reply.get("organic_results", [])
        return results_of(rows, "link", "title", "snippet")

    def is_quota(self, status: int, said: str) -> bool:
        # The same status stands for the searches of an hour, which are renewed soon.
        return status == 429 and "run out" in said


SERPAPI = SerpApi()
