"""Web search providers that are services over HTTP."""

import abc
import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jaxsearch.json_files import json_value
from jaxsearch.key_addresses import check_key, may_have_keys
from jaxsearch.search.index import SearchError, SearchStoppedError
from jaxsearch.web.provider import (
    BadQueryError,
    RateLimitError,
    WebProvider,
    WebQuery,
    WebResult,
)

_MAX_REPLY_BYTES = 4_000_000
_MAX_SAID_LEN = 200  # characters: a service may answer with a whole page


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceRequest:
    """An HTTP request to a service. It may hold a key, so it is never shown."""

    url: str
    params: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    body: Mapping[str, Any] | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchService(abc.ABC):
    """A provider that is asked over HTTP.

    Keys are read from the environment for each query, so that no object, config or
    error holds one. They are sent to the address of the class, and to another one only
    if the user gave it (`key_addresses`).
    """

    url: str = ""
    """Address of the service."""
    usd_per_query: float = 0.0
    """List price in US dollars at the time of writing; yours may be lower."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name of the service, and the settings that change its answers."""

    @property
    @abc.abstractmethod
    def variables(self) -> tuple[str, ...]:
        """The environment variables that it needs; the first one holds the key."""

    @property
    def refusal(self) -> str:
        """What the statuses 401 and 403 mean, and what to do."""
        return (
            "the search provider refused the key: check the environment variable "
            f"{' and '.join(self.variables)}"
        )

    @abc.abstractmethod
    def request(self, query: WebQuery) -> ServiceRequest:
        """The request that asks this query."""

    @abc.abstractmethod
    def results(self, reply: Any) -> list[WebResult]:
        """The results in a reply with status 200, already parsed as JSON.

        Raises:
          KeyError, TypeError, ValueError: if the reply has another form.
        """

    @abc.abstractmethod
    def is_quota(self, status: int, said: str) -> bool:
        """Whether an error means that a plan or a balance is used up.

        Args:
          status: the HTTP status.
          said: the body of the reply, in lower case.
        """

    def check(self, *, has_date_limit: bool) -> None:
        """Checks that the service can be asked; sends nothing.

        Raises:
          ValueError: if a variable is missing or cannot be sent, or dates cannot be
            limited.
        """
        for name in self.variables:
            if not os.environ.get(name):
                raise ValueError(
                    f"{type(self).__name__} needs the environment variable {name}: "
                    f"set it (export {name}=...), or answer from the cache alone with "
                    "--web.offline"
                )
            check_key(os.environ[name], f"the environment variable {name}")
        self._check_address()

    def _check_address(self) -> None:
        """Checks that the keys may be sent to the address.

        Raises:
          SearchStoppedError: if they may not.
        """
        is_own = self.url == type(self).url
        if self.variables and not (is_own or may_have_keys(self.url)):
            raise SearchStoppedError(
                f"{type(self).__name__} is to be asked at {self.url!r:.80}, which a "
                f"folder names, and would get the key in {self.variables[0]}; if this "
                f"server is yours, give --trust {self.url!s:.80}"
            )

    def __call__(self, query: WebQuery) -> list[WebResult]:
        """Asks the service.

        Raises:
          SearchError: as `WebProvider` describes.
        """
        from jaxsearch.web.exchange import ExchangeError, exchange

        self._check_address()
        request = self.request(query)
        try:
            reply = exchange(
                request.url,
                params=request.params,
                headers={"accept": "application/json", **request.headers},
                body=None if request.body is None else json.dumps(request.body),
                timeout_s=query.timeout_s,
                max_bytes=_MAX_REPLY_BYTES,
                use_proxy=query.use_proxy,
            )
        except ExchangeError as error:
            raise SearchError(f"{type(self).__name__}: {error}") from None
        text = reply.body.decode(errors="replace")
        if reply.status != 200:
            raise self._failure(reply.status, text, reply.headers.get("retry-after"))
        try:
            return self.results(json_value(text))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SearchError(
                f"{type(self).__name__} answered with status 200, but not in its "
                f"format: {self._said(text)!r}"
            ) from None

    def _failure(self, status: int, text: str, retry_after: str | None) -> Exception:
        """The exception for a reply with another status than 200."""
        name = type(self).__name__
        said = f"{name} answered with status {status}: {self._said(text)!r}"
        if self.is_quota(status, text.lower()):
            return SearchStoppedError(
                f"the quota of the search provider is used up; {said}; raise it, or "
                "wait until it is renewed, and repeat the command, which continues"
            )
        if status in (401, 403):
            return SearchStoppedError(f"{self.refusal}; {said}")
        if status == 429:
            return RateLimitError(said, _seconds(retry_after))
        if 400 <= status < 500 and status != 408:
            return BadQueryError(said)
        return SearchError(said)

    def _said(self, text: str) -> str:
        """The beginning of a reply, on one line and without keys."""
        for name in self.variables:
            if key := os.environ.get(name):
                text = text.replace(key, "***")
        return " ".join(text.split())[:_MAX_SAID_LEN]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionalService(SearchService):
    """A service whose results depend on a country and a language."""

    country: str = "us"
    """Two letters, such as us or de."""
    language: str = "en"

    @property
    def name(self) -> str:
        return f"{type(self).__name__.lower()} {self.country} {self.language}"

    @property
    def region(self) -> dict[str, str]:
        """Google's parameters for the country and the language."""
        return {"gl": self.country, "hl": self.language}


def key_of(provider: WebProvider) -> str:
    """What identifies a provider in the cache: its name, or that of the function."""
    if isinstance(provider, SearchService):
        return provider.name
    if isinstance(provider, functools.partial):
        return f"{key_of(provider.func)} with {provider.args} {provider.keywords}"
    if dataclasses.is_dataclass(provider):
        return f"{type(provider).__module__}:{provider!r}"
    named = provider if isinstance(provider, _NAMED) else type(provider)
    return f"{named.__module__}:{named.__qualname__}"


_NAMED = type(key_of) | type


def text_of(value: Any) -> str:
    """A field of a reply that should be text; "" for anything else."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def results_of(
    rows: Sequence[Mapping[str, Any]], url: str, title: str, snippet: str
) -> list[WebResult]:
    """The rows of a reply that have an address, by the names of their fields."""
    return [
        WebResult(
            url=row[url].strip(),
            title=text_of(row.get(title)),
            snippet=text_of(row.get(snippet)),
        )
        for row in rows
        if isinstance(row.get(url), str)
    ]


def _seconds(retry_after: str | None) -> float | None:
    """The header Retry-After in seconds; a date or nonsense counts as none."""
    is_number = retry_after is not None and retry_after.strip().isdecimal()
    return float(retry_after) if is_number and retry_after is not None else None
