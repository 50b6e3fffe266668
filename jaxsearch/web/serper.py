"""Serper (serper.dev): Google's results."""

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Serper(SearchService):
    """Needs SERPER_API_KEY. One credit per query of up to ten results."""

    url: str = "https://google.serper.dev/search"
    country: str = "us"
    language: str = "en"
    usd_per_query: float = 0.001

    @property
    def name(self) -> str:
        return f"serper {self.country} {self.language}"

    @property
    def variables(self) -> tuple[str, ...]:
        return ("SERPER_API_KEY",)

    def request(self, query: WebQuery) -> ServiceRequest:
        body = {"q": query.text, "num": query.num_results}
        body |= {"gl": self.country, "hl": self.language}
        if query.date_limit:
            body["tbs"] = google_dates(query.date_limit)
        key = os.environ[self.variables[0]]
        headers = {"x-api-key": key, "content-type": "application/json"}
        return ServiceRequest(url=self.url, headers=headers, body=body)

    def results(self, reply: Any) -> list[WebResult]:
        return results_of(reply.get("organic", []), "link", "title", "snippet")

    def is_quota(self, status: int, said: str) -> bool:
        return status in (400, 402, 403, 429) and "not enough credits" in said


def google_dates(date_limit: str) -> str:
    """Google's parameter `tbs` for pages up to a day."""
    year, month, day = date_limit.split("-")
    return f"cdr:1,cd_max:{month}/{day}/{year}"


SERPER = Serper()
