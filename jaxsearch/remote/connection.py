"""Requests to one server over kept connections, with bounds on every answer."""

import email.utils
import json
import math
import time
import weakref
from typing import Any

import httpx2

from jaxsearch.json_files import json_value
from jaxsearch.remote.bearer import VARIABLE, missing_token, without_token
from jaxsearch.search.index import (
    BusySearchError,
    RefusedSearchError,
    SearchError,
    SearchStoppedError,
)

# Servers close idle connections after five seconds (uvicorn's default); one that is
# used at that moment would break.
_IDLE_S = 4.0
_KIB = 1024
_MAX_REASON_LEN = 120


class UnreachableError(SearchError):
    """A server cannot be connected to, or does not answer in time."""


class UnauthorizedError(RefusedSearchError):
    """A server wants a bearer token."""


class RefusedRequestError(RefusedSearchError):
    """A server refuses a request with a status below 500, and would refuse it again.

    Attributes:
      status: the HTTP status.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class TimedOutError(UnreachableError):
    """A server did not answer in time."""


class Connection:
    """Sends requests to a server; several threads may use it at once.

    Redirects are not followed, proxies and credentials of the environment are not used.

    Args:
      url: address of the server.
      token: bearer token; "" for none.
      token_variable: name of the token's environment variable, for errors.
      connect_timeout_s: timeout of a connection.

    Raises:
      ValueError: if the address cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str,
        token_variable: str = VARIABLE,
        connect_timeout_s: float,
    ):
        try:
            httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise ValueError(f"{url!r:.80} is not an address ({error})") from None
        self.url = url
        self._token = token
        self._token_variable = token_variable
        self._connect_timeout_s = connect_timeout_s
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx2.Client(
            headers=headers,
            trust_env=False,
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=_IDLE_S),
        )
        # Retrievers are not closed, so the connections end with this object.
        weakref.finalize(self, self._client.close)

    def get(self, path: str, *, timeout_s: float, max_bytes: int = 4096 * _KIB) -> Any:
        """The JSON at a path; raises as `post` does."""
        return self._json("GET", path, None, timeout_s, max_bytes)

    def post(self, path: str, body: Any, *, timeout_s: float, max_bytes: int) -> Any:
        """The JSON with which the server answers a JSON body.

        Args:
          path: path of the request.
          body: its JSON.
          timeout_s: timeout of the whole answer, in seconds.
          max_bytes: size of the largest answer to read.

        Raises:
          UnreachableError: if it cannot be connected to; TimedOutError, which is one of
            these, if there is no whole answer in time.
          BusySearchError: if the server says when it can be asked again.
          RefusedSearchError: if it would refuse the request again.
          SearchStoppedError: for status 402: a budget of the server's is used up.
          SearchError: for any other failure.
        """
        return self._json("POST", path, body, timeout_s, max_bytes)

    def _json(
        self, method: str, path: str, body: Any, timeout_s: float, max_bytes: int
    ) -> Any:
        where = f"{self.url}{path}"
        content = None if body is None else json.dumps(body).encode()
        deadline = time.monotonic() + timeout_s
        try:
            with self._client.stream(
                method,
                where,
                content=content,
                headers={"Content-Type": "application/json"} if content else {},
                timeout=httpx2.Timeout(
                    timeout_s, connect=min(self._connect_timeout_s, timeout_s)
                ),
            ) as response:
                is_good = response.status_code == 200
                limit = max_bytes if is_good else 64 * _KIB
                data = _body(response, limit, deadline, is_good)
        except httpx2.ConnectTimeout:
            raise TimedOutError(f"{self.url}: no connection in time") from None
        except (httpx2.TimeoutException, TimedOutError):
            raise TimedOutError(f"{where}: no answer within {timeout_s:g} s") from None
        except httpx2.ConnectError as error:
            raise UnreachableError(f"{self.url}: cannot connect ({error})") from None
        except (httpx2.TransportError, SearchError) as error:
            raise SearchError(f"{where}: {error}") from None
        if not is_good:
            raise self._error(where, response, data)
        try:
            return json_value(data, allow_nan=False)
        except ValueError:
            kind = response.headers.get("Content-Type", "no type")
            raise SearchError(
                f"{where}: expected JSON, got {self._line(kind)}: "
                f"{self._line(data.decode(errors='replace'))!r}"
            ) from None

    def _error(
        self, where: str, response: httpx2.Response, data: bytes
    ) -> SearchError | SearchStoppedError:
        status = response.status_code
        if 300 <= status < 400:
            target = response.headers.get("Location", "").partition("?")[0]
            return RefusedSearchError(
                f"{where} redirects to {self._line(target)!r}; redirects are not "
                "followed: give the server's own address"
            )
        reason = f"{where}: status {status}, {self._line(_detail(data))!r}"
        if status == 402:
            return SearchStoppedError(
                f"{reason}; as soon as the server answers again, the same command "
                "continues"
            )
        if status in (401, 403):
            why = missing_token(self.url, self._token, self._token_variable)
            return UnauthorizedError(
                f"{where}: status {status}, the server wants a token, and {why}"
            )
        if 400 <= status < 500 and status not in (408, 429):
            return RefusedRequestError(reason, status)
        if after := _retry_after(response.headers.get("Retry-After", "")):
            return BusySearchError(f"{reason}, again in {after:g} s", after)
        return SearchError(reason)

    def _line(self, text: str) -> str:
        """A text of the server on one short line, without the token."""
        line = " ".join(without_token(text, self._token).split())
        return "".join(c for c in line if c.isprintable())[:_MAX_REASON_LEN]


def _body(
    response: httpx2.Response, max_bytes: int, deadline: float, is_good: bool
) -> bytes:
    """The body of a response; that of an error is cut, because it is only shown."""
    coding = response.headers.get("Content-Encoding", "identity")
    if is_good and coding != "identity":
        # A few kilobytes could unpack to gigabytes.
        raise SearchError(f"the answer is compressed ({coding!r:.20}), unasked")
    parts, size = [], 0
    for part in response.iter_raw():
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            if not is_good:
                break
            raise SearchError(f"the answer has more than {max_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise TimedOutError
    return b"".join(parts)


def _detail(data: bytes) -> str:
    """The reason that a server gives for an error."""
    text = data.decode(errors="replace")
    try:
        found = json_value(text)
    except ValueError:
        return text
    for name in ("detail", "error", "message"):
        if isinstance(found, dict) and name in found:
            detail = found[name]
            return detail if isinstance(detail, str) else json.dumps(detail)
    return text


def _retry_after(text: str) -> float:
    """Seconds in a Retry-After header, which may have a date; 0.0 without one."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(text).timestamp()
        except (ValueError, OverflowError):  # no date, or one of no calendar
            return 0.0
        seconds = date - time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
