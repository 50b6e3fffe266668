"""The token that a server may ask for; it comes from the environment alone."""

import os

VARIABLE = "JAXSEARCH_SEARCH_TOKEN"
_HIDDEN = "***"


def search_token() -> str:
    """The token in JAXSEARCH_SEARCH_TOKEN; "" if there is none.

    Raises:
      ValueError: if it cannot be sent in a header; the error does not show it.
    """
    token = os.environ.get(VARIABLE, "").strip()
    if not (token.isascii() and all(c.isprintable() and c != " " for c in token)):
        raise ValueError(
            f"{VARIABLE} must have printable ASCII characters without spaces"
        )
    return token


def without_token(text: str, token: str) -> str:
    """A server's text, in case it repeats the token."""
    return text.replace(token, _HIDDEN) if token else text
