"""One HTTP request and its reply, bounded in time and size, to checked addresses.

HTTP comes from httpcore2, the transport of httpx2: its network layer can be replaced,
and it writes neither addresses nor headers of requests to logs, where a key would be.
"""

import contextlib
import dataclasses
import functools
import ipaddress
import socket
import ssl
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpcore2
import httpx2

from jaxsearch.env.daemon_executor import DaemonExecutor
from jaxsearch.web.addresses import Address, AddressRule, any_address
from jaxsearch.web.proxies import proxy_of

USER_AGENT = "jaxsearch"
REDIRECTS = (301, 302, 303, 307, 308)
_MAX_ADDRESSES = 4  # of a name, to try in turn
_GZIP = 31  # window and format, as zlib has them
_LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal", ".home.arpa")


class ExchangeError(Exception):
    """A request has no usable reply.

    Attributes:
      reason: forbidden, timeout, connection, too_large, bad_reply or bad_url.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply. Names of headers are in lower case; a redirect's body is not read."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


def exchange(
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    timeout_s: float,
    max_bytes: int,
    rule: AddressRule = any_address,
    use_proxy: bool = False,
    check_head: Callable[[Reply], None] = lambda reply: None,
) -> Reply:
    """Sends a GET, or a POST if there is a body. Redirects are not followed.

    Args:
      url: the address, with http or https.
      params: parameters to add to it.
      headers: headers of the request.
      body: text of the request.
      timeout_s: seconds for everything, looking up the name included.
      max_bytes: limit of the reply's body, as it is sent and unpacked.
      rule: addresses that may be connected to. All addresses of a name must be allowed.
      use_proxy: whether to use the proxy that the environment names. Then the proxy
        looks up names, and the rule sees only addresses that are written out.
      check_head: receives the reply before its body is read; may raise.

    Raises:
      ExchangeError: if there is no whole reply within the limits.
    """
    deadline = time.monotonic() + timeout_s
    try:
        target = httpx2.URL(url)
        if params:
            target = target.copy_merge_params(params)
    except (httpx2.InvalidURL, ValueError):
        raise ExchangeError("bad_url", "the address cannot be parsed") from None
    sent = {"host": target.netloc.decode("ascii"), "user-agent": USER_AGENT}
    sent |= {"accept-encoding": "gzip", "connection": "close", **(headers or {})}
    content = None if body is None else body.encode(errors="replace")
    if content is not None:
        sent["content-length"] = str(len(content))
    try:
        with (
            _pool(target, deadline, rule, use_proxy) as pool,
            pool.stream(
                "GET" if content is None else "POST",
                _core_url(target),
                # Bytes, because it takes no other texts than ASCII.
                headers={k: v.encode(errors="replace") for k, v in sent.items()},
                content=content,
            ) as response,
        ):
            reply = Reply(status=response.status, headers=_headers(response.headers))
            check_head(reply)
            if reply.status in REDIRECTS:
                return reply
            packing = reply.headers.get("content-encoding", "").strip().lower()
            unpacked = _unpacked(response.iter_stream(), packing, max_bytes)
            return dataclasses.replace(reply, body=unpacked)
    except httpcore2.TimeoutException:
        message = f"no answer within {timeout_s:g} s"
        raise ExchangeError("timeout", message) from None
    except (httpcore2.NetworkError, httpcore2.ProxyError) as error:
        said = str(error) or type(error).__name__
        raise ExchangeError("connection", f"the connection failed: {said}") from None
    except httpcore2.LocalProtocolError:
        # Its text has the whole header, which may be a key.
        message = "the request has a header that cannot be sent"
        raise ExchangeError("bad_url", message) from None
    except (httpcore2.ProtocolError, UnicodeError, zlib.error) as error:
        said = str(error) or type(error).__name__
        raise ExchangeError("bad_reply", f"not an HTTP reply: {said:.100}") from None
    except httpcore2.UnsupportedProtocol:
        raise ExchangeError("bad_url", "the address is not http or https") from None


def _headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in headers}


def _core_url(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def _pool(
    url: httpx2.URL, deadline: float, rule: AddressRule, use_proxy: bool
) -> contextlib.AbstractContextManager[httpcore2.ConnectionPool]:
    """Connections for one request, direct or through a proxy."""
    options: dict[str, Any] = {"ssl_context": ssl_context(), "max_connections": 1}
    proxy = _proxy(url.scheme) if use_proxy else None
    if proxy is None or urllib.request.proxy_bypass(url.host):
        backend = CheckedBackend(rule, deadline)
        return httpcore2.ConnectionPool(network_backend=backend, **options)
    check_written_address(url.host, rule)
    return httpcore2.HTTPProxy(
        proxy_url=_core_url(proxy.url),
        proxy_auth=proxy.raw_auth,
        network_backend=CheckedBackend(any_address, deadline),
        **options,
    )


def _proxy(scheme: str) -> httpx2.Proxy | None:
    """The proxy of the environment for a scheme; None if there is none.

    Raises:
      ExchangeError: if it cannot be used.
    """
    try:
        address = proxy_of(scheme)
        return None if address is None else httpx2.Proxy(address)
    except (ValueError, httpx2.InvalidURL):
        message = "the proxy in the environment cannot be used"
        raise ExchangeError("connection", message) from None


@functools.cache
def ssl_context() -> ssl.SSLContext:
    """The certificates of this machine, or those that SSL_CERT_FILE names."""
    return httpx2.create_ssl_context()


def check_written_address(host: str, rule: AddressRule) -> None:
    """Checks a host that a proxy will look up, as far as it can be known here.

    Raises:
      ExchangeError: for an address that is not allowed, or a name of a local network.
    """
    name = host.rstrip(".").lower()
    is_local = name == "localhost" or name.endswith(_LOCAL_NAMES)
    try:
        # Understands decimal and octal forms too.
        found = socket.getaddrinfo(name, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        found = []
    addresses = [ipaddress.ip_address(row[4][0]) for row in found]
    if rule is not any_address and is_local:
        raise ExchangeError("forbidden", f"{host} is a name of a local network")
    _check_all(host, addresses, rule)


def _check_all(host: str, addresses: Iterable[Address], rule: AddressRule) -> None:
    for address in addresses:
        if not rule(address):
            raise ExchangeError(
                "forbidden", f"{host} is at {address}, a private address"
            )


class CheckedBackend(httpcore2.NetworkBackend):
    """Connects to addresses that a rule allows, until a deadline.

    A name is looked up once. All its addresses are checked, and the connection is made
    to one of them, so that a second answer of the name server has no effect. TLS and
    the header Host still get the name.

    Args:
      rule: addresses that may be connected to.
      deadline: end of all waiting, as `time.monotonic` has it.
    """

    def __init__(self, rule: AddressRule, deadline: float):
        self._rule = rule
        self._deadline = deadline
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.NetworkStream:
        addresses = self._addresses(host, port)
        _check_all(host, addresses, self._rule)
        error: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in addresses[:_MAX_ADDRESSES]:
            try:
                stream = self._sockets.connect_tcp(
                    str(address), port, timeout=_left(self._deadline)
                )
            except httpcore2.ConnectError as failure:
                error = failure
                continue
            peer = ipaddress.ip_address(stream.get_extra_info("server_addr")[0])
            if peer != address:
                stream.close()
                raise ExchangeError("forbidden", f"{host}: connected to {peer}")
            return _TimedStream(stream, self._deadline)
        raise error

    def _addresses(self, host: str, port: int) -> list[Address]:
        """All addresses of a name; looking it up has no time limit of its own."""
        with DaemonExecutor() as background:
            found = background.submit(
                socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM
            )
            try:
                rows = found.result(_left(self._deadline))
            except TimeoutError:
                raise httpcore2.ConnectTimeout from None
            except (OSError, UnicodeError) as error:
                said = f"{host} has no address ({error})"
                raise httpcore2.ConnectError(said) from None
        return list(dict.fromkeys(ipaddress.ip_address(row[4][0]) for row in rows))


class _TimedStream(httpcore2.NetworkStream):
    """A stream whose reads and writes all end at one deadline.

    With a time limit for each read, a server could send one byte at a time for ever.
    """

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float):
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        secure = self._stream.start_tls(
            ssl_context, server_hostname, _left(self._deadline)
        )
        return _TimedStream(secure, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    """Seconds until a deadline.

    Raises:
      httpcore2.ReadTimeout: if it has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout
    return left


def _unpacked(chunks: Iterable[bytes], packing: str, max_bytes: int) -> bytes:
    """A body without its compression; stops as soon as it is too large.

    Raises:
      ExchangeError: if it is too large, packed in another way, or cut off.
    """
    if packing not in ("", "identity", "gzip", "x-gzip"):
        raise ExchangeError("bad_reply", f"packed as {packing:.40}, not gzip")
    unpack = zlib.decompressobj(_GZIP) if "gzip" in packing else None
    body = bytearray()
    for chunk in chunks:
        # One byte more than the limit shows that there is more.
        room = max_bytes + 1 - len(body)
        body += chunk[:room] if unpack is None else unpack.decompress(chunk, room)
        if len(body) > max_bytes:
            raise ExchangeError("too_large", f"more than {max_bytes:,} bytes")
    if unpack is not None and not unpack.eof:
        raise ExchangeError("bad_reply", "the packed reply is cut off")
    return bytes(body)
