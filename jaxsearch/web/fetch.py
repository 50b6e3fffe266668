"""Fetching of pages that strangers have written, from servers that they run."""

import dataclasses
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from jaxsearch.web.addresses import AddressRule, is_public
from jaxsearch.web.exchange import (
    REDIRECTS,
    USER_AGENT,
    ExchangeError,
    Reply,
    exchange,
)
from jaxsearch.web.robots import ALLOW_ALL, ALLOW_NONE, RobotsRules, parse_robots
from jaxsearch.web.turns import Turns

MAX_BYTES = 2_000_000  # of a page, unpacked
_MAX_REDIRECTS = 5
_MAX_ROBOTS_BYTES = 500_000
_ROBOTS_AGE_S = 3600.0
_MAX_ROBOTS = 1000  # servers whose rules are remembered
_TURN_WAIT_S = 30.0
_MAX_URL_LEN = 2000
_TEXT_TYPES = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown")


class PageError(Exception):
    """A page cannot be used.

    Attributes:
      reason: one of `counts.PAGE_REASONS`.
      status: HTTP status of the reply, if it is the reason; else 0.
    """

    def __init__(self, reason: str, message: str, status: int = 0):
        super().__init__(message)
        self.reason = reason
        self.status = status


@dataclasses.dataclass(frozen=True, kw_only=True)
class FetchedPage:
    """A page as its server sent it, unpacked."""

    url: str
    content_type: str
    body: bytes


class Fetcher:
    """Fetches pages; several threads may fetch at once.

    Args:
      turns: gives each host one request at a time.
      timeout_s: seconds on the network for a page, with its redirects.
      use_proxy: whether to use the proxy that the environment names.
      rule: addresses that may be connected to.
    """

    def __init__(
        self,
        turns: Turns,
        *,
        timeout_s: float,
        use_proxy: bool = False,
        rule: AddressRule = is_public,
    ):
        self._turns = turns
        self._timeout_s = timeout_s
        self._use_proxy = use_proxy
        self._rule = rule
        self._robots: dict[str, tuple[float, RobotsRules]] = {}
        self._robots_lock = threading.Lock()

    def fetch(self, url: str) -> FetchedPage:
        """A page of text, after at most five redirects.

        Raises:
          PageError: if it cannot or may not be fetched.
        """
        reply, target = self._followed(url, MAX_BYTES, obeys_robots=True)
        content_type = reply.headers["content-type"]
        return FetchedPage(url=str(target), content_type=content_type, body=reply.body)

    def _followed(
        self, url: str, max_bytes: int, *, obeys_robots: bool
    ) -> tuple[Reply, httpx2.URL]:
        """The reply with status 200 at the end of the redirects, and its address."""
        left, target = self._timeout_s, checked_url(url)
        for _ in range(_MAX_REDIRECTS + 1):
            if obeys_robots and not self._rules(target).allows(_path(target)):
                raise PageError("robots", f"{target.host} forbids it in robots.txt")
            started = time.monotonic()
            with self._turn(target.host):
                waited = time.monotonic() - started
                reply = self._asked(target, left, max_bytes, is_page=obeys_robots)
            left -= time.monotonic() - started - waited
            if reply.status not in REDIRECTS:
                _check_status(reply.status)
                return reply, target
            target = checked_url(_joined(target, reply.headers.get("location", "")))
        raise PageError("redirects", f"more than {_MAX_REDIRECTS} redirects")

    def _asked(
        self, target: httpx2.URL, left: float, max_bytes: int, *, is_page: bool
    ) -> Reply:
        def check_head(reply: Reply) -> None:
            if is_page and reply.status == 200:
                _check_type(reply.headers.get("content-type", ""))

        if left <= 0:
            raise PageError("timeout", f"no page within {self._timeout_s:g} s")
        try:
            return exchange(
                str(target),
                headers={"accept": "text/html, text/plain"},
                timeout_s=left,
                max_bytes=max_bytes,
                rule=self._rule,
                use_proxy=self._use_proxy,
                check_head=check_head,
            )
        except ExchangeError as error:
            raise PageError(error.reason, str(error)) from None

    @contextmanager
    def _turn(self, host: str) -> Iterator[None]:
        try:
            with self._turns.turn(host, _TURN_WAIT_S):
                yield
        except TimeoutError:
            raise PageError("host_busy", f"other pages of {host} came first") from None

    def _rules(self, target: httpx2.URL) -> RobotsRules:
        """The rules of the page's server, which are asked for once in an hour."""
        origin = f"{target.scheme}://{target.netloc.decode('ascii')}"
        with self._robots_lock:
            known = self._robots.get(origin)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        rules = self._read_rules(origin)
        with self._robots_lock:
            while len(self._robots) >= _MAX_ROBOTS:
                del self._robots[next(iter(self._robots))]
            self._robots[origin] = time.monotonic() + _ROBOTS_AGE_S, rules
        return rules

    def _read_rules(self, origin: str) -> RobotsRules:
        """The rules of a server: without a file all pages are allowed, else none.

        Raises:
          PageError: if the server must not, or cannot, be connected to.
        """
        try:
            reply, _ = self._followed(
                f"{origin}/robots.txt", _MAX_ROBOTS_BYTES, obeys_robots=False
            )
        except PageError as error:
            is_missing = 400 <= error.status < 500 and error.status != 429
            if is_missing or error.reason in ("redirects", "too_large"):
                return ALLOW_ALL
            if error.status or error.reason == "bad_reply":
                return ALLOW_NONE
            raise
        return parse_robots(reply.body.decode(errors="replace"), USER_AGENT)


def checked_url(url: str) -> httpx2.URL:
    """The parsed address of a page.

    Raises:
      PageError: if it is not http or https, or holds a user or a password.
    """
    try:
        parsed = httpx2.URL(url)
        has_host = bool(parsed.host) and 0 < (parsed.port or 80) < 65_536
    except (httpx2.InvalidURL, ValueError):
        raise PageError("bad_url", "the address cannot be parsed") from None
    if parsed.scheme not in ("http", "https") or not has_host:
        raise PageError("bad_url", "the address is not http or https")
    if parsed.userinfo:
        raise PageError("bad_url", "the address holds a user or a password")
    if len(str(parsed)) > _MAX_URL_LEN:
        raise PageError("bad_url", f"the address has over {_MAX_URL_LEN} characters")
    return parsed.copy_with(fragment=None)


def _joined(target: httpx2.URL, location: str) -> str:
    """The address that a redirect leads to."""
    try:
        return urllib.parse.urljoin(str(target), location)
    except ValueError:
        raise PageError("bad_url", "the address cannot be parsed") from None


def _path(target: httpx2.URL) -> str:
    return target.raw_path.decode("ascii")


def _check_status(status: int) -> None:
    if status in (404, 410):
        raise PageError("missing", f"status {status}", status)
    if status != 200:
        raise PageError("status", f"status {status}", status)


def _check_type(content_type: str) -> None:
    """Checks that a page is text.

    Raises:
      PageError: if it is not.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in _TEXT_TYPES:
        raise PageError("type", f"{kind[:60] or 'a page without a type'} is not text")
