"""The socket of a server, and the token that its clients need."""

import ipaddress
import os
import socket
from pathlib import Path

TOKEN_VARIABLE = "JAXSEARCH_SERVE_TOKEN"


def listen(host: str, port: int, *, backlog: int = 2048) -> socket.socket:
    """A socket that listens; port 0 takes any free port.

    Raises:
      ValueError: if the host has no address, or the port is taken or not allowed.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"a port is a number from 0 to 65535, got {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"host {host!r} has no address ({error})") from error
    family, address = found[0][0], found[0][4]
    try:
        return socket.create_server(address, family=family, backlog=backlog)
    except OSError as error:
        # Not `error.strerror`, to which Python adds the address once more.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ValueError(
            f"cannot listen on {host} port {port} ({reason}); choose another with "
            "--port, or 0 for any free one"
        ) from error


def url_of(listener: socket.socket) -> str:
    """The address of a listening socket, as clients on this machine write it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Whether only processes of this machine can connect."""
    return ipaddress.ip_address(listener.getsockname()[0].split("%")[0]).is_loopback


def read_token(file: str) -> str:
    """The token in a file, or in the environment; "" if there is none.

    Raises:
      ValueError: if the token is empty, or cannot be sent in a header.
    """
    if file:
        # Bytes that are no UTF-8 are characters that no token has.
        text = Path(file).read_text(encoding="utf-8", errors="replace")
        token, source = text.strip(), file
    elif TOKEN_VARIABLE in os.environ:
        token, source = os.environ[TOKEN_VARIABLE].strip(), TOKEN_VARIABLE
    else:
        return ""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        # The token itself is never shown.
        raise ValueError(
            f"{source}: expected a token of visible ASCII characters without spaces, "
            f"got {len(token)} characters that are not one"
        )
    return token
