"""Serper (serper.dev): Google's results.

Its documentation is a page for customers; the format is that of its open clients, such
as `langchain_community.utilities.google_serper`. A credit costs a thousandth of a
dollar or less, depending on how many are bought.
"""

import dataclasses
import os
from typing import Any

from jaxsearch.web.provider import WebQuery, WebResult
from jaxsearch.web.service import RegionalService, ServiceRequest, results_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Serper(RegionalService):
    """Needs SERPER_API_KEY. One credit per query of up to ten results."""

    url: str = "https://google.serper.dev/search"
    usd_per_query: float = 0.001

    @property
    def variables(self) -> tuple[str, ...]:
        return ("SERPER_API_KEY",)

    def request(self, query: WebQuery) -> ServiceRequest:
        body = {"q": query.text, "num": query.num_results}
        body |= self.region
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
