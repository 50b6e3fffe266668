"""SerpApi (serpapi.com): Google's results."""

import dataclasses
import os
from typing import Any

from jaxsearch.web.provider import (
    SearchService,
    ServiceRequest,
    WebQuery,
    WebResult,
    results_of,
)
from jaxsearch.web.serper import google_dates


@dataclasses.dataclass(frozen=True, kw_only=True)
class SerpApi(SearchService):
    """Needs SERPAPI_API_KEY."""

    url: str = "https://serpapi.com/search.json"
    country: str = "us"
    language: str = "en"
    usd_per_query: float = 0.015

    @property
    def name(self) -> str:
        return f"serpapi {self.country} {self.language}"

    @property
    def variables(self) -> tuple[str, ...]:
        return ("SERPAPI_API_KEY",)

    def request(self, query: WebQuery) -> ServiceRequest:
        params = {"engine": "google", "q": query.text, "num": str(query.num_results)}
        params |= {"gl": self.country, "hl": self.language, "output": "json"}
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
