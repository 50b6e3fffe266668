"""Brave Search API (api.search.brave.com), an index of its own.

Format and limits: api-dashboard.search.brave.com/api-reference/web/search/get. Only
queries that are answered are counted and billed.
"""

import dataclasses
import os
from typing import Any

from jaxsearch.json_files import json_value
from jaxsearch.web.provider import WebQuery, WebResult
from jaxsearch.web.service import RegionalService, ServiceRequest, results_of

# Accepted by the service: characters and words of a query.
_MAX_LEN, _MAX_WORDS = 400, 50
_MAX_RESULTS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brave(RegionalService):
    """Needs BRAVE_API_KEY. Takes queries of up to 400 characters and 50 words."""

    url: str = "https://api.search.brave.com/res/v1/web/search"
    usd_per_query: float = 0.005

    @property
    def variables(self) -> tuple[str, ...]:
        return ("BRAVE_API_KEY",)

    def request(self, query: WebQuery) -> ServiceRequest:
        text = " ".join(query.text.split()[:_MAX_WORDS])[:_MAX_LEN]
        num = min(query.num_results, _MAX_RESULTS)
        params = {"q": text, "count": str(num), "result_filter": "web"}
        params |= {"country": self.country.upper(), "search_lang": self.language}
        # Otherwise descriptions have markup.
        params["text_decorations"] = "false"
        if query.date_limit:
            params["freshness"] = f"1990-01-01to{query.date_limit}"
        key = os.environ[self.variables[0]]
        headers = {"x-subscription-token": key}
        return ServiceRequest(url=self.url, params=params, headers=headers)

    def results(self, reply: Any) -> list[WebResult]:
        # The part `web` is missing if there are no results.
        rows = reply.get("web", {}).get("results", [])
        return results_of(rows, "url", "title", "description")

    def is_quota(self, status: int, said: str) -> bool:
        return status == 402 or (status == 429 and _is_used_up(said))


def _is_used_up(said: str) -> bool:
    """Whether a reply is about the queries of a month, and not about those of a second.

    Both have the same status, and a reply about the second has the quota in it too.
    """
    try:
        error = json_value(said)["error"]
        meta = error.get("meta", {})
        limit = meta.get("quota_limit") or float("inf")
        is_reached = meta.get("quota_current", 0) >= limit
        return error.get("code") == "quota_limited" or is_reached
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


BRAVE = Brave()
