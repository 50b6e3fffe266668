"""The token that a server may ask for; it comes from the environment alone."""

import os

from jaxsearch.key_addresses import check_key, may_have_keys

VARIABLE = "JAXSEARCH_SEARCH_TOKEN"
_HIDDEN = "***"


def bearer_token(url: str, variable: str = VARIABLE) -> str:
    """The token in an environment variable, if the user gave this address; else "".

    Raises:
      ValueError: if it cannot be sent in a header; the error does not show it.
    """
    token = os.environ.get(variable, "").strip()
    check_key(token, variable)
    return token if may_have_keys(url) else ""


def missing_token(url: str, sent: str, variable: str = VARIABLE) -> str:
    """Why a server that wants a token refuses, and what to do.

    Args:
      url: address of the server.
      sent: the token that it got.
      variable: name of the token's environment variable.
    """
    if sent:
        return f"{variable} is another one"
    if not os.environ.get(variable):
        return f"{variable} is not set"
    return (
        f"{variable} is not sent to an address that a folder names; if the server is "
        f"yours, give --trust {url}"
    )


def without_token(text: str, token: str) -> str:
    """A server's text, in case it repeats the token."""
    return text.replace(token, _HIDDEN) if token else text
