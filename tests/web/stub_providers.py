"""Providers of a user's own: plain functions of a query."""

import time

from jaxsearch.web.provider import WebQuery, WebResult


def one_page(query: WebQuery) -> list[WebResult]:
    """A result whose snippet repeats the query."""
    return [WebResult(url="http://a.test/", title="A", snippet=f"about {query.text}")]


def broken(query: WebQuery):
    return [("http://a.test/", "A")]


def hanging(query: WebQuery) -> list[WebResult]:
    time.sleep(60)
    return one_page(query)
