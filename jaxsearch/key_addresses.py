"""Addresses that may get the user's keys and tokens.

Keys are in the environment, while addresses may also come from a run's folder, which
somebody else may have written. A key is sent to an address only if the user gave that
address to this process: on the command line, in the config that is trained, in a call
from Python, or with --trust. An address stands for all paths of its server.
"""

import urllib.parse

_DEFAULT_PORTS = {"http": 80, "https": 443}
_given: set[str] = set()


def allow_keys(*urls: str) -> None:
    """Lets servers have the user's keys, because the user gave their addresses.

    Args:
      urls: addresses, or comma-separated lists of them; other texts are ignored.
    """
    _given.update(
        _server(one) for url in urls for one in url.split(",") if _server(one)
    )


def may_have_keys(url: str) -> bool:
    """Whether keys may be sent to this address."""
    return _server(url) in _given


def check_key(key: str, source: str) -> None:
    """Checks that a key can be sent in a header.

    Args:
      key: the key, which the error does not show.
      source: where it comes from, such as the name of an environment variable.

    Raises:
      ValueError: if it cannot.
    """
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(
            f"{source} must have printable ASCII characters without spaces and line "
            "breaks"
        )


def _server(url: str) -> str:
    """Scheme, host and port of an address; "" if it is not an address."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname else ""
