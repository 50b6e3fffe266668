"""The proxies that the environment names."""

import urllib.parse
import urllib.request

SCHEMES = ("http", "https")


def proxy_of(scheme: str) -> str | None:
    """The address of the proxy for addresses with a scheme; None if there is none.

    As for other programs, a proxy that is given without `http://` is an HTTP proxy.

    Raises:
      ValueError: if it is another kind of proxy, or not an address. The error does not
        show it, because it may hold a password.
    """
    given = urllib.request.getproxies().get(scheme)
    if given is None:
        return None
    address = given if "://" in given else f"http://{given}"
    try:
        parts = urllib.parse.urlsplit(address)
        is_usable = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ValueError(
            "--web.use-proxy needs HTTP proxies, such as http://proxy.example:3128, "
            f"and the one in the environment variable {scheme}_proxy is none"
        )
    return address
