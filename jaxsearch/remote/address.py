"""Addresses of servers, as users give them."""

import dataclasses
import urllib.parse
from typing import Literal

DialectName = Literal["auto", "research", "search_r1", "r1_searcher"]

# Last part of a dialect's path -> its name. Other systems configure the whole path.
_ENDPOINTS = {
    "retrieve": "search_r1",
    "search": "research",
    "batch_search": "research",
    "queries": "r1_searcher",
}
_MILVUS = "milvus"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """A server.

    Attributes:
      url: its address, without the path of a dialect and without a slash at the end.
      dialect: the dialect whose path was part of the given address; "" if none was.
    """

    url: str
    dialect: str = ""


def is_url(text: str) -> bool:
    """Whether a text is the address of a server, and not a file or folder."""
    return "://" in text


def is_milvus(text: str) -> bool:
    """Whether a text is the address of a collection of Milvus."""
    return text.startswith(f"{_MILVUS}://")


def parse_addresses(text: str) -> tuple[Address, ...]:
    """The servers in a comma-separated list.

    Raises:
      ValueError: for an address that is not of the form http://HOST:PORT, or is given
        twice.
    """
    addresses = tuple(_address(part.strip()) for part in text.split(","))
    urls = [address.url for address in addresses]
    if len(set(urls)) < len(urls):
        raise ValueError(f"each server is given once, got {', '.join(urls)}")
    return addresses


def _address(text: str) -> Address:
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{_shown(text)!r} is not an address ({error})") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "an address has no user name and password, because it is recorded in the "
            "run's folder; a bearer token belongs in the environment variable "
            "JAXSEARCH_SEARCH_TOKEN"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(
            f"expected the address of a server as http://HOST:PORT, got {text!r:.80}"
        )
    if parts.query or parts.fragment or any(c.isspace() for c in text):
        raise ValueError(
            "expected the address of a server as http://HOST:PORT, without a query "
            f"(?...), a fragment (#...) and spaces, got {_shown(text)!r:.80}"
        )
    path = parts.path.rstrip("/")
    before, _, last = path.rpartition("/")
    dialect = _ENDPOINTS.get(last, "")
    path = before if dialect else path
    return Address(url=f"{parts.scheme}://{parts.netloc}{path}", dialect=dialect)


def _shown(text: str) -> str:
    """An address without what may be a secret."""
    return text.partition("?")[0].partition("#")[0].rpartition("@")[2]
